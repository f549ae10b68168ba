"""An exception that expires becomes a finding: once, whoever sees it and however often."""

from __future__ import annotations

import datetime as dt
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.policy.bundles import policy, write
from usageaudit.errors import OutcomeUnknown, StoreUnavailable
from usageaudit.pipeline import setback
from usageaudit.pipeline.consume import Consumer
from usageaudit.pipeline.policies import Policies
from usageaudit.stores.address import open_store
from usageaudit.stores.ledger import Ledger
from usageaudit.stores.migrate import migrate
from usageaudit.streams.opening import open_stream
from usageaudit.verdicts import finding_id

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from usageaudit.stores.ledger import Finding
    from usageaudit.stores.port import Store

PAST = "2026-01-01T00:00:00Z"
EXCEPTION = {"id": "EX-1", "when": "true", "approved_by": "C. Officer", "reason": "test", "expires": PAST}
FINDINGS = """SELECT finding_id, kind, effect, policy_id, policy_version, bundle, severity, group_key,
toUnixTimestamp(window_end) FROM findings_log ORDER BY created, finding_id"""


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Yield an embedded store; opening one takes a second, so the tests share it."""
    store = open_store(f"embedded:{tmp_path_factory.mktemp('store')}")
    migrate(store)
    yield store
    store.close()


@pytest.fixture
def store(opened: Store) -> Store:
    """Return the store without findings and bundles."""
    for table in ("findings_log", "bundles_log"):
        opened.execute(f"TRUNCATE TABLE {table}")
    return opened


def _bundle(folder: Path, *exceptions: dict[str, Any], title: str = "t", **more: Any) -> Path:
    text = policy(pack="b", title=title, message="m", exceptions=list(exceptions), **more)
    return write(folder / "b", {"bundle.yaml": "name: b", "policies/a.yaml": text})


def _run(store: Store, folder: Path, policies: Policies | Path, ledger: Ledger | None = None) -> None:
    """Run a consumer to the end of an empty stream."""
    stream = open_stream(f"embedded:{folder}")
    chosen = policies if isinstance(policies, Policies) else Policies([str(policies)])
    Consumer(stream, ledger or Ledger(store), chosen, "test", threading.Event()).run_until_caught_up()
    stream.close()


def _ids(store: Store) -> list[str]:
    return [row[0] for row in store.execute(FINDINGS).rows]


def test_an_expired_exception_is_one_finding(store: Store, tmp_path: Path) -> None:
    """Without any event, on each of three starts: one row, whose bundle is in the store, and no violation."""
    bundle = _bundle(tmp_path, EXCEPTION, severity="high")
    for _ in range(3):
        _run(store, tmp_path, bundle)
    [(*found, expiry)] = store.execute(FINDINGS).rows
    identity = finding_id("b/a", 1, "exception/EX-1", PAST)
    [(bundle_hash,)] = store.execute("SELECT hash FROM bundles").rows
    assert found == [identity, "exception_expired", "notice", "b/a", 1, bundle_hash, "high", "exception/EX-1"]
    assert expiry == dt.datetime.fromisoformat(PAST).timestamp()
    [(message,)] = store.execute("SELECT message FROM findings").rows
    assert message.startswith("exception EX-1 of b/a, approved by C. Officer, expired at 2026-01-01T00:00:00Z")
    assert store.execute("SELECT count() FROM violations").rows == [(0,)]


def test_another_bundle_makes_no_other_finding_of_it(store: Store, tmp_path: Path) -> None:
    """The same expiry under a changed bundle, and under a later revision, is known already; an extension is not."""
    _run(store, tmp_path, _bundle(tmp_path, EXCEPTION))
    _run(store, tmp_path, _bundle(tmp_path, EXCEPTION, title="another"))
    first = {"version": 1, "when": "has(usage)", "to": "2026-02-01"}
    second = {"version": 2, "when": "has(input)", "from": "2026-02-01"}
    _run(store, tmp_path, _bundle(tmp_path, EXCEPTION, revisions=[first, second]))
    assert len(_ids(store)) == 1
    _run(store, tmp_path, _bundle(tmp_path, {**EXCEPTION, "expires": "2026-01-02"}))
    assert len(_ids(store)) == 2


def test_what_has_not_expired_and_what_is_not_judged_makes_none(store: Store, tmp_path: Path) -> None:
    """Neither an exception of the future nor one of a draft is a finding."""
    _run(
        store,
        tmp_path,
        _bundle(tmp_path, {**EXCEPTION, "expires": "2105-01-01"}, {**EXCEPTION, "id": "2", "expires": "9000-01-01"}),
    )
    _run(store, tmp_path, _bundle(tmp_path, EXCEPTION, stage="draft"))
    assert _ids(store) == []


def test_each_exception_is_a_finding_of_its_own(store: Store, tmp_path: Path) -> None:
    """Exceptions of any age and any id, also of used packs by an override, are reported in the order of expiry."""
    first, second = {**EXCEPTION, "id": "alt", "expires": "1850-01-01"}, {**EXCEPTION, "id": "é/'\\"}
    name = "hygiene/use-case-missing"
    bundle = _bundle(tmp_path, second, first)
    write(
        bundle,
        {"bundle.yaml": "name: b\nuses: [hygiene]", "overrides.yaml": json.dumps({name: {"exceptions": [EXCEPTION]}})},
    )
    _run(store, tmp_path, bundle)
    keys = store.execute("SELECT policy_id, group_key FROM findings ORDER BY group_key").rows
    assert keys == [(name, "exception/EX-1"), ("b/a", "exception/alt"), ("b/a", "exception/é/'\\")]


def test_an_exception_expires_while_the_consumer_runs(store: Store, tmp_path: Path) -> None:
    """One is announced two weeks before, reported when its time comes, and one that SIGHUP brings at once."""
    then = dt.datetime(2090, 1, 1, tzinfo=dt.UTC)
    policies = Policies([str(_bundle(tmp_path, {**EXCEPTION, "expires": then.isoformat()}))])
    ledger = Ledger(store)
    policies.report_expired(ledger)
    policies.report_expired(ledger, then - dt.timedelta(days=14, microseconds=1))
    assert _ids(store) == []
    for _ in range(2):
        policies.report_expired(ledger, then - dt.timedelta(days=14))
    policies.report_expired(ledger, then - dt.timedelta(microseconds=1))
    [(_, *announced, expiry)] = store.execute(FINDINGS).rows
    assert announced[:2] == ["exception_expiring", "notice"]
    assert announced[-1] == "expiring/EX-1"
    assert expiry == then.timestamp()
    [(message,)] = store.execute("SELECT message FROM findings").rows
    assert "expires at 2090-01-01T00:00:00Z" in message
    policies.report_expired(ledger, then)
    policies.report_expired(ledger, then)
    assert len(_ids(store)) == 2
    assert (policies.announced, policies.reported) == (1, 1)
    _bundle(tmp_path, EXCEPTION)
    policies.request_reload()
    policies.report_expired(ledger)
    assert len(_ids(store)) == 3


class Away(Ledger):
    """A ledger whose findings fail at first, before or after they are written."""

    failures: list[Exception]

    def add_finding(self, finding: Finding) -> None:
        """Fail once for each planned failure; of an unknown outcome the row is there."""
        failure = self.failures.pop(0) if self.failures else None
        if not isinstance(failure, StoreUnavailable):
            super().add_finding(finding)
        if failure is not None:
            raise failure


def test_a_store_that_is_away_only_delays_the_finding(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The consumer goes on where a finding can't be appended, and appends it later, once."""
    monkeypatch.setattr(setback, "FIRST_PAUSE", 0.0)
    ledger = Away(store)
    ledger.failures = [StoreUnavailable("away"), OutcomeUnknown("lost"), StoreUnavailable("away")]
    policies = Policies([str(_bundle(tmp_path, EXCEPTION))])
    while ledger.failures:
        _run(store, tmp_path, policies, ledger)
    _run(store, tmp_path, policies, ledger)
    assert len(_ids(store)) == 1
