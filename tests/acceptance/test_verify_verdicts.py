"""`usageaudit verify` judges again what was recorded last: clean data passes, an altered verdict does not."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.conftest import COMMAND, Pair
from tests.strategies import envelope
from usageaudit.demo.scenarios import scenarios
from usageaudit.events.times import format_time
from usageaudit.stores.address import open_store

if TYPE_CHECKING:
    from pathlib import Path

PACKS = "azure-openai-code-of-conduct,eu-ai-act-article-5,hygiene"
ALTERATIONS = {
    "violated": "violated_version = arrayMap(one -> one + 1, violated_version)",
    "indeterminate": "indeterminate_version = arrayMap(one -> one + 1, indeterminate_version)",
}


@pytest.fixture
def embedded(tmp_path: Path) -> Pair:
    """Return the embedded pair in a folder of its own."""
    return Pair("embedded:./data", "embedded:./data", tmp_path, PACKS)


def _publish_scenarios(pair: Pair) -> None:
    events = (one.event for one in scenarios())
    lines = (json.dumps(envelope(one.data, id=one.id, source=one.source, time=format_time(one.time))) for one in events)
    pair.run("publish", "-", text="\n".join(lines))


def _alter(pair: Pair, event_id: str, change: str) -> None:
    store = open_store(pair.store.replace("embedded:.", f"embedded:{pair.folder}"))
    try:
        store.execute(f"ALTER TABLE ledger UPDATE {change} WHERE event_id = '{event_id}' SETTINGS mutations_sync = 2")
    finally:
        store.close()


def _problems(pair: Pair, *arguments: str, code: int) -> list[dict[str, str]]:
    printed = pair.run("verify", "--problems", *arguments, "--format=ndjson", code=code)
    return [json.loads(line) for line in printed.splitlines()]


FINDINGS = "SELECT finding_id, policy_id, event_refs FROM findings WHERE kind = 'integrity' ORDER BY finding_id"


def test_altered_verdict_is_found(pair: Pair) -> None:
    """The scenarios by all packs have no problem; an altered verdict is named with its event, as a finding, too."""
    pair = replace(pair, policies=PACKS)
    _publish_scenarios(pair)
    pair.consume()
    assert _problems(pair, "--all", code=0) == []
    altered: dict[str, set[str]] = {}
    for column, change in ALTERATIONS.items():
        (row,) = pair.query(
            f"SELECT event_id, {column} AS policies FROM usage_events WHERE notEmpty(policies) ORDER BY 1 LIMIT 1"
        )
        altered.setdefault(row["event_id"], set()).update(row["policies"])
        _alter(pair, row["event_id"], change)
    found = _problems(pair, code=1)
    assert {row["problem"] for row in found} == {"verdicts_differ"}
    for event_id, policies in altered.items():
        named = {row["where"].partition(" ")[0] for row in found if row["message"].endswith(f" {event_id}")}
        assert named == policies
    assert _problems(pair, "--no-verdicts", code=0) == []
    kept = pair.query(FINDINGS)
    assert {row["policy_id"] for row in kept} == {policy for policies in altered.values() for policy in policies}
    assert _problems(pair, code=1) == found
    assert pair.query(FINDINGS) == kept


def test_process_that_holds_the_data_is_asked(embedded: Pair) -> None:
    """While a service runs its rows are judged again through it; what differs is said, and not kept."""
    _publish_scenarios(embedded)
    embedded.consume()
    (row,) = embedded.query("SELECT event_id FROM usage_events WHERE notEmpty(violated) ORDER BY event_id LIMIT 1")
    _alter(embedded, row["event_id"], ALTERATIONS["violated"])
    service = subprocess.Popen([COMMAND, "up"], env=embedded.environment, cwd=embedded.folder, stderr=subprocess.PIPE)
    try:
        assert service.stderr is not None
        assert any(b"recording" in line for line in service.stderr)
        found = {one["problem"] for one in _problems(embedded, code=1)}
    finally:
        service.terminate()
        service.communicate(timeout=60)
    assert found == {"verdicts_differ", "findings_not_kept"}
    assert embedded.query(FINDINGS) == []


def test_window_that_is_none_is_refused(embedded: Pair) -> None:
    """A window that is no duration ends with 2 and says what one looks like."""
    embedded.run("verify", "--window", "yesterday", code=2)
