"""The logins of deploy/clickhouse on a real server: each can do its part, and nothing that is another's."""

from __future__ import annotations

import json
import re
import urllib.request
from contextlib import closing
from queue import SimpleQueue
from threading import Event
from typing import TYPE_CHECKING, Any

import pytest
from clickhouse_driver import Client
from clickhouse_driver.errors import ServerException

from tests.deploy.alerts import names
from tests.deploy.deployed import usageaudit
from tests.ledger_rows import reads
from tests.strategies import envelope
from tests.unit.policy.bundles import write
from usageaudit.alerts.receiving import Arrival, receiving
from usageaudit.alerts.service import AlertsService
from usageaudit.alerts.signing import new_secret
from usageaudit.errors import QueryError, QueryRefused
from usageaudit.operating.beside import beside
from usageaudit.policy import load_bundle
from usageaudit.scheduler.service import Scheduler
from usageaudit.stores.address import open_store
from usageaudit.stores.ledger import Ledger
from usageaudit.stores.queries import named_queries
from usageaudit.streams.port import Partition

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.deploy.deployed import DeployedClickHouse
    from usageaudit.stores.port import Store

BURST = """\
id: b/burst
title: Two calls within a minute
severity: high
stage: enforce
basis: [{document: Our rules, clause: "1"}]
window: {kind: event_count, group_by: [actor.organization], over: 1m}
when: "true"
condition: value >= 2
message: "{value} calls of {actor.organization}"
"""
ACCESS_DENIED = 497
BEYOND_CONSTRAINT = 452
EVENT = {
    "operation": "chat",
    "model": {"provider": "openai", "name": "gpt-4o"},
    "actor": {"id": "u-1", "organization": "insurer"},
    "application": {"name": "claims"},
    "purpose": {"use_case": "companion_chat"},
}
EXAMPLES = {"String": "x", "UInt32": "1", "Date": "2026-01-01"}
OF_RAW_BYTES = {"unknown-fields"}
"""Named queries that read what an event said beyond its fields."""

NO_WAITING = {"mutations_sync": 0, "lightweight_deletes_sync": 0, "alter_sync": 0, "max_execution_time": 20}
"""Settings by which no statement waits for what the server does in the background."""

CHANGES = (
    "INSERT INTO ledger (topic) VALUES ('x')",
    "INSERT INTO rejected_payloads (topic) VALUES ('x')",
    "INSERT INTO fence (topic, epoch) VALUES ('x', 99)",
    "ALTER TABLE ledger DELETE WHERE 1",
    "ALTER TABLE ledger UPDATE bundle = '' WHERE 1",
    "ALTER TABLE ledger ADD COLUMN x UInt8",
    "DELETE FROM ledger WHERE 1",
    "TRUNCATE TABLE findings_log",
    "OPTIMIZE TABLE ledger",
    "RENAME TABLE fence TO other",
    "CREATE TABLE other (x UInt8) ENGINE = Memory",
    "CREATE VIEW mine AS SELECT 1",
    "DROP VIEW violations",
    "DROP TABLE bundles_log",
    "DROP DATABASE usageaudit",
)
OUTSIDE = (
    "SELECT * FROM url('http://127.0.0.1:1/', LineAsString) SETTINGS http_max_tries = 1",
    "SELECT * FROM file('x', LineAsString)",
    "SELECT * FROM remote('127.0.0.1:1', system.one) SETTINGS connections_with_failover_max_tries = 1",
    "SELECT * FROM system.users",
    "SELECT * FROM system.grants",
    "SHOW GRANTS FOR admin",
    "CREATE USER mallory",
    "GRANT SELECT ON *.* TO usageaudit_read",
    "ALTER USER usageaudit_read IDENTIFIED WITH no_password",
    "SYSTEM STOP MERGES ledger",
    "SYSTEM SHUTDOWN",
    "KILL QUERY WHERE user = 'admin'",
    "CREATE FUNCTION f AS x -> x",
)
PAYLOADS = ("SELECT payload FROM rejected_payloads",)
RECORD = (
    "SELECT raw FROM ledger",
    "SELECT raw FROM usage_events",
    "SELECT archive FROM bundles",
    "SELECT * FROM fence",
)
FORBIDDEN = {
    "read": (*CHANGES, *OUTSIDE, *PAYLOADS, *RECORD, "SELECT event_id FROM ledger", "SELECT message FROM findings_log"),
    "review": (*CHANGES, *OUTSIDE, *PAYLOADS),
    "operate": (*CHANGES, *(one for one in OUTSIDE if "KILL" not in one)),
    "ingest": (
        *(one for one in CHANGES if not one.startswith("INSERT")),
        *(one for one in OUTSIDE if "KILL" not in one),
        *PAYLOADS,
        *(one for one in RECORD if "fence" not in one),
        "SELECT actor_id FROM ledger",
        "SELECT count() FROM usage_events",
        "INSERT INTO schema_migrations (version) VALUES (99)",
    ),
    **dict.fromkeys(
        ("schedule", "alert"),
        (
            *(one for one in CHANGES if not one.startswith("INSERT INTO fence")),
            *(one for one in OUTSIDE if "KILL" not in one),
            *PAYLOADS,
            *(one for one in RECORD if "fence" not in one),
            "INSERT INTO schema_migrations (version) VALUES (99)",
            "DELETE FROM alert_decisions WHERE 1",
        ),
    ),
    "migrate": (
        *(one for one in CHANGES if "VIEW" not in one and "ADD COLUMN" not in one and "CREATE TABLE" not in one),
        *(one for one in OUTSIDE if "KILL" not in one),
        *PAYLOADS,
        "INSERT INTO findings_log (finding_id) VALUES ('x')",
    ),
}


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the URL of a stream with two events, a copy of the first, and a record that is none."""
    folder = tmp_path_factory.mktemp("stream")
    events = [envelope(EVENT, id=f"e-{number}", time="2026-05-01T12:00:00Z") for number in range(2)]
    lines = [json.dumps(event) for event in (*events, events[0])]
    (folder / "events").write_text("\n".join([*lines, '{"not": "an event"}']) + "\n", encoding="utf-8")
    url = f"embedded:{folder / 'data'}"
    usageaudit("publish", "--raw", str(folder / "events"), "--stream", url)
    return url


@pytest.fixture(scope="module")
def recorded(store: DeployedClickHouse, stream: str) -> DeployedClickHouse:
    """Return the server with that stream recorded by the real consumer, logged in as `usageaudit_ingest`."""
    counts = usageaudit("consume", "--until-caught-up", "--stream", stream, "--store", store.login("ingest"))
    assert json.loads(counts) == {"consumed": 4, "accepted": 2, "duplicates": 1, "rejected": 1}
    return store


@pytest.fixture(scope="module")
def reader(recorded: DeployedClickHouse) -> Iterator[Store]:
    """Yield the store as `usageaudit_read` sees it."""
    opened = open_store(recorded.login("read"))
    yield opened
    opened.close()


def _code(client: Any, statement: str) -> int:
    """Return the code of the error that a statement meets, 0 where it meets none."""
    with client:
        try:
            client.execute(statement)
        except ServerException as error:
            return int(error.code or -1)
        return 0


@pytest.mark.parametrize("login", FORBIDDEN)
def test_a_login_can_do_nothing_else(recorded: DeployedClickHouse, login: str) -> None:
    """Each statement that is none of a login's is refused for want of a right."""
    found = {statement: _code(recorded.client(login), statement) for statement in FORBIDDEN[login]}
    assert {statement: code for statement, code in found.items() if code != ACCESS_DENIED} == {}


def test_the_statements_are_refused_for_the_login_alone(recorded: DeployedClickHouse) -> None:
    """Where the same statements come from `admin`, who may do it all, none lacks a right: they test what they say."""
    recorded.execute("CREATE DATABASE control")
    admin = (
        f"clickhouse://admin:{(recorded.secrets / 'clickhouse_admin').read_text()}@127.0.0.1:{recorded.port}/control"
    )
    usageaudit("migrate", "--store", admin)
    harmful = {"SYSTEM SHUTDOWN", "DROP DATABASE usageaudit"}
    every = dict.fromkeys(one for many in FORBIDDEN.values() for one in many)  # in the order in which they stand
    harmless = [one for one in every if "usageaudit_read" not in one and one not in harmful]
    found = {
        statement: _code(recorded.client("admin", "control"), statement)
        for statement in sorted(harmless, key=lambda one: "DROP" in one)
    }
    recorded.execute("DROP DATABASE control SYNC")
    recorded.execute("DROP USER mallory")
    recorded.execute("DROP FUNCTION f")
    assert [statement for statement, code in found.items() if code == ACCESS_DENIED] == []
    assert sum(code == 0 for code in found.values()) > len(found) / 2


def test_readers_see_every_view(recorded: DeployedClickHouse, reader: Store) -> None:
    """Every view of the schema answers `usageaudit_read`, but for the bytes of events and bundles."""
    listed = recorded.execute("SELECT name FROM system.tables WHERE database = 'usageaudit' AND engine = 'View'")
    for (view,) in listed:
        hidden = {"usage_events": "EXCEPT (raw)", "bundles": "EXCEPT (archive)"}.get(view, "")
        reader.query(f"SELECT * {hidden} FROM {view}")
    assert reader.query("SELECT count() FROM usage_events").rows == [(2,)]
    with pytest.raises(QueryRefused):
        reader.query("SELECT * FROM usage_events")


def test_readers_can_ask_the_named_questions(reader: Store) -> None:
    """Every shipped query answers `usageaudit_read`, but for those that read the bytes of events."""
    for query in named_queries().values():
        values = {**{one.name: EXAMPLES[one.type] for one in query.parameters}, **query.defaults}
        if query.name in OF_RAW_BYTES:
            with pytest.raises(QueryRefused):
                reader.query(query.sql, values)
        else:
            reader.query(query.sql, values)


def test_views_read_the_projections_for_readers_too(reader: Store) -> None:
    """A view that reads as another user is still served by the aggregates beside the rows."""
    assert reads(reader, "SELECT sum(events) FROM usage_hourly") == {"usage_by_hour"}


def test_readers_have_limits(recorded: DeployedClickHouse) -> None:
    """A reader may ask for less than the limits of the profile, and not for more."""
    for setting, allowed, beyond in (
        ("max_memory_usage", 10**9, 10**12),
        ("max_execution_time", 10, 10**6),
        ("max_memory_usage", 10**9, 0),
        ("max_result_rows", 10, 10**12),
    ):
        assert _code(recorded.client("read"), f"SELECT 1 SETTINGS {setting} = {allowed}") == 0
        assert _code(recorded.client("read"), f"SELECT 1 SETTINGS {setting} = {beyond}") == BEYOND_CONSTRAINT


def test_nobody_logs_in_as_the_views_do(recorded: DeployedClickHouse) -> None:
    """The user that views read as has no password and may come from no host."""
    assert _code(Client("127.0.0.1", recorded.port, user="usageaudit_views"), "SELECT 1") != 0


def test_a_view_stays_closed_until_it_is_given_to_its_login(recorded: DeployedClickHouse, reader: Store) -> None:
    """A view as `migrate` makes it shows readers nothing; `apply.sh views` opens it, and may be run again."""
    recorded.execute("ALTER TABLE usageaudit.rejects MODIFY SQL SECURITY INVOKER")
    with pytest.raises(QueryRefused):
        reader.query("SELECT count() FROM rejects")
    recorded.apply("views")
    assert reader.query("SELECT count() FROM rejects").rows == [(1,)]


def test_logins_can_be_made_again(recorded: DeployedClickHouse, reader: Store) -> None:
    """Running the script for logins again changes nothing that works, and takes a changed password."""
    file = recorded.secrets / "clickhouse_review"
    file.chmod(0o600)
    file.write_text("another", encoding="utf-8")
    recorded.apply("users")
    assert _code(recorded.client("review"), "SELECT 1") == 0
    assert reader.query("SELECT count() FROM usage_events").rows == [(2,)]


def test_a_scheduler_and_a_dispatcher_do_their_part(recorded: DeployedClickHouse, tmp_path: Path) -> None:
    """With logins of their own the one finds a burst in what was recorded, and the other tells of it."""
    bundle = write(tmp_path / "b", {"bundle.yaml": "name: b", "policies/burst.yaml": BURST})
    loaded = load_bundle([bundle])
    with closing(open_store(recorded.login("schedule"))) as own:
        scheduler = Scheduler(own, loaded, lateness=0, since=0)
        assert scheduler.step() == 1
        scheduler.give_back()
        own.execute("DELETE FROM window_events WHERE rule = 'none' SETTINGS lightweight_deletes_sync = 0")
    secret, got = new_secret(), SimpleQueue[Arrival]()
    with receiving("127.0.0.1", 0, secret, got.put, print) as port:
        (tmp_path / "secret").write_text(secret, encoding="utf-8")
        hook = f"{{url: 'http://127.0.0.1:{port.port}/', secrets: [{{file: {tmp_path / 'secret'}}}]}}"
        (tmp_path / "alerts.yaml").write_text(
            f"alerts: 1\ntargets: {{hook: {{webhook: {hook}}}}}\n"
            "routes: [{to: [hook]}]\nnetwork: {allow: [127.0.0.1]}\n",
            encoding="utf-8",
        )
        with closing(open_store(recorded.login("alert"))) as own:
            service = AlertsService(tmp_path / "alerts.yaml", own, lambda: loaded, since=0)
            with beside("alerts", service.run, Event()):
                arrival = got.get(timeout=20)
    assert arrival.data["policy_id"] == "b/burst"
    (listed,) = usageaudit("alerts", "list", "--store", recorded.login("read")).splitlines()
    assert json.loads(listed)["state"] == "delivered"
    usageaudit("alerts", "resend", arrival.delivery_id, "--store", recorded.login("operate"))
    (listed,) = usageaudit("alerts", "list", "--store", recorded.login("operate")).splitlines()
    assert json.loads(listed)["state"] == "waiting"


def test_operators_verify_and_look_at_refused_records(recorded: DeployedClickHouse, stream: str) -> None:
    """`verify`, `rejects` and `doctor` work as `usageaudit_operate`."""
    url = recorded.login("operate")
    (line,) = usageaudit("verify", "--stream", stream, "--store", url).splitlines()
    assert json.loads(line)["consumed"] == 4
    assert usageaudit("rejects", "list", "--store", url).count("\n") == 1
    assert "not" in usageaudit("rejects", "show", "0", "3", "--raw", "--store", url)
    checks = [json.loads(one) for one in usageaudit("doctor", "--stream", stream, "--store", url).splitlines()]
    assert {one["status"] for one in checks if one["check"] in ("store", "migrations")} == {"ok"}


def test_reviewers_judge_history_again(recorded: DeployedClickHouse) -> None:
    """`policy backtest`, `explain --event` and `rejudge` work as `usageaudit_review`."""
    url = recorded.login("review")
    usageaudit("policy", "backtest", "eu-ai-act-article-5", "--store", url)
    ((source, event_id),) = recorded.execute(
        "SELECT event_source, event_id FROM usageaudit.ledger WHERE status = 'accepted' LIMIT 1"
    )
    usageaudit("policy", "explain", "--event", source, event_id, "--store", url)
    usageaudit("policy", "rejudge", "eu-ai-act-article-5", "--store", url)


def test_the_consumer_ends_inserts_of_the_owner_before(recorded: DeployedClickHouse) -> None:
    """Taking a partition over ends a statement that the owner before, the same login, still runs for it."""
    partition = Partition("s", "t", 7)
    zombie = recorded.client("ingest")
    endless = "SELECT sleepEachRow(1) FROM numbers(600) SETTINGS max_block_size = 1"
    running = zombie.execute_iter(endless, query_id="ingest/s/t/7/1/1", chunk_size=1)
    next(running)
    taking = open_store(recorded.login("ingest"))
    assert Ledger(taking).fence(partition, "successor") == 1
    with pytest.raises(ServerException, match="cancelled"):
        list(running)
    zombie.disconnect()
    taking.close()


def test_a_consumer_with_another_login_is_refused(recorded: DeployedClickHouse) -> None:
    """A login that may only read can't take a partition over."""
    other = open_store(recorded.login("read"))
    with pytest.raises(QueryError):
        Ledger(other).fence(Partition("s", "t", 7), "other")
    other.close()


def test_metrics_of_the_server_exist(store: DeployedClickHouse) -> None:
    """The server as deploy/ sets it up exposes each metric of ClickHouse that alerts and dashboards name."""
    with urllib.request.urlopen(f"http://127.0.0.1:{store.metrics_port}/metrics", timeout=30) as answer:
        exposed = set(re.findall(r"(?m)^(\w+)[ {]", answer.read().decode()))
    named = {name for name in names() if name.startswith("ClickHouse")}
    assert named
    assert named <= exposed
