"""History from the command line on both pairs: the scenarios, the change of May 2024, rejudging, and bad input."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from tests.acceptance.conftest import COMMAND, Pair
from tests.strategies import MINIMAL, envelope
from tests.unit.policy.bundles import policy, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TIMES = {"before": "2024-04-17T09:30:00Z", "after": "2024-05-17T09:30:00Z"}
PACK = "azure-openai-code-of-conduct"
CUT = "2024-05-01"


def _objects(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def _publish(pair: Pair, *events: dict[str, Any]) -> None:
    pair.run("publish", "-", text="".join(json.dumps(event) + "\n" for event in events))


def _use(name: str, use_case: str | None = None, **more: Any) -> dict[str, Any]:
    """Return an event of an organisation; `more` are further fields of its data."""
    data = {**MINIMAL, **({"purpose": {"use_case": use_case}} if use_case else {}), **more}
    return envelope(data, id=name, source="//history", time="2024-05-02T10:00:00Z")


@pytest.fixture
def quiet(tmp_path: Path) -> str:
    """Return a bundle that finds nothing, to record events by."""
    return str(
        write(tmp_path / "quiet", {"bundle.yaml": "name: quiet", "policies/a.yaml": policy("false", pack="quiet")})
    )


@pytest.fixture
def strict(tmp_path: Path) -> str:
    """Return a bundle that takes the use case `x` for a violation."""
    text = policy('purpose.use_case == "x"', pack="strict", message="{purpose.use_case} by {actor.id}")
    return str(write(tmp_path / "strict", {"bundle.yaml": "name: strict", "policies/a.yaml": text}))


@pytest.fixture
def recorded(pair: Pair, quiet: str) -> Pair:
    """Return a pair with an event of use case `x`, one of `y`, and one that does not say."""
    _publish(pair, _use("e1", "x"), _use("e2", "y"), _use("e3"))
    pair.consume()
    return pair


def test_scenarios_come_out_alike_by_stream_explanation_and_backtest(pair: Pair, test_data: Path, quiet: str) -> None:
    """Every scenario, before and after the change, has the verdicts it should have, whichever way is asked."""
    scenarios = json.loads((test_data / "scenarios.json").read_text())
    events = [
        envelope(one["data"], id=f"{one['id']}-{when}", source="//scenarios", time=time)
        for one in scenarios["scenarios"]
        for when, time in TIMES.items()
    ]
    expected = {
        (f"{one['id']}-{when}", f"{PACK}/{clause}"): verdict
        for one in scenarios["scenarios"]
        for when in TIMES
        for clause, verdict in one["expect"][when]["clauses"].items()
        if verdict not in ("ok", "not_applicable")
    }
    _publish(pair, *events)
    pair.run("consume", "--until-caught-up", "--policies", quiet)
    tried = _objects(pair.run("policy", "backtest", PACK, "--examples=100", "--by=event"))
    assert {(row["event_id"], row["policy_id"]): row["verdict_after"] for row in tried} == expected
    assert {row["verdict_before"] for row in tried} == {"ok"}
    lines = "".join(json.dumps(event) + "\n" for event in events)
    explained = {
        (event["event_id"], one["policy_id"]): one
        for event in _objects(pair.run("policy", "explain", "-", text=lines))
        for one in event["policies"]
        if one["verdict"] not in ("ok", "not_applicable")
    }
    assert {key: one["verdict"] for key, one in explained.items()} == expected
    assert {(row["event_id"], row["policy_id"]): row["missing_fields"] for row in tried} == {
        key: one["missing_fields"] for key, one in explained.items()
    }
    pair.run("policy", "rejudge", PACK)
    found = pair.query("SELECT event_id, policy_id, 'violation' AS verdict FROM violations")
    found += pair.query("SELECT event_refs[1].2 AS event_id, policy_id, verdict FROM findings WHERE effect = 'notice'")
    assert {(row["event_id"], row["policy_id"]): row["verdict"] for row in found} == expected


def test_those_affected_are_those_that_python_counts(pair: Pair, test_data: Path) -> None:
    """For the change of May 2024, counts by organisation are those of judging event by event, before and after."""
    scenarios = json.loads((test_data / "scenarios.json").read_text())["scenarios"]
    events = [envelope(one["data"], id=one["id"], source="//s", time=TIMES["before"]) for one in scenarios]
    _publish(pair, *events)
    pair.consume()
    rows = _objects(pair.run("report", "affected", "--since", CUT, "--by", "organization"))
    names = {one["id"]: one["data"]["actor"].get("organization") for one in scenarios}
    revised = {row["policy_id"] for row in rows}
    expected: Counter[Any] = Counter()
    for when, figure in (("before", "violations_before"), ("after", "violations_after")):
        lines = "".join(json.dumps({**event, "time": TIMES[when]}) + "\n" for event in events)
        for event in _objects(pair.run("policy", "explain", "-", text=lines)):
            for one in event["policies"]:
                if one["verdict"] == "violation" and one["policy_id"] in revised:
                    expected[one["policy_id"], names[event["event_id"]], figure] += 1
    figures = ("violations_before", "violations_after")
    found = {(r["policy_id"], r["organization"], name): r[name] for r in rows for name in figures if r[name]}
    assert found == expected
    assert any(row["added"] for row in rows)


def test_a_backtest_says_what_was_not_recorded(recorded: Pair, strict: str) -> None:
    """What an event did not say leaves it undecided, with the field's name; nothing is written; drafts are tried."""
    written = "SELECT (SELECT count() FROM findings_log) AS findings, (SELECT count() FROM bundles_log) AS bundles"
    before = recorded.query(written)
    [row] = _objects(recorded.run("policy", "backtest", strict))
    assert (row["added"], row["now_indeterminate"], row["violations_before"]) == (1, 1, 0)
    assert [(one["event_id"], one["verdict_after"], one["missing_fields"]) for one in row["examples"]] == [
        ("e1", "violation", []),
        ("e3", "indeterminate", ["purpose.use_case"]),
    ]
    assert row["unsaid"] == {"purpose.use_case": 1}
    assert [(part["month"], part["added"]) for part in row["months"]] == [("2024-05", 1)]
    for by in ("policy", "organization", "application", "month", "event"):
        lines = recorded.run("policy", "backtest", strict, "--by", by, "--format=csv").splitlines()
        assert lines[0].startswith("policy_id,")
        assert len(lines) > 1
    draft = policy('purpose.use_case == "y"', pack="strict", stage="draft")
    write(recorded.folder / "strict", {"policies/a.yaml": draft})
    assert [one["added"] for one in _objects(recorded.run("policy", "backtest", strict))] == [1]
    write(recorded.folder / "strict", {"policies/a.yaml": draft.replace('"draft"', '"retired"')})
    assert [one["violations_after"] for one in _objects(recorded.run("policy", "backtest", strict))] == [0]
    assert recorded.query(written) == before


def test_a_reviewer_reads_a_report(recorded: Pair, strict: str) -> None:
    """On a terminal of 80 columns the report is text: a table of policies, where something changes, and examples."""
    shown = _on_a_terminal(recorded, "policy", "backtest", strict)
    assert "3 events from 2024-05-02 to 2024-05-02, 1 policy" in shown
    [figures] = [line.split() for line in shown.splitlines() if line.startswith("strict/a ")]
    assert figures == ["strict/a", "0", "1", "0", "1", "1", "1", "0"]
    assert "of the 1 newly undecided, so many did not say: purpose.use_case (1)" in shown
    assert "ok → violation: 2024-05-02T10:00:00Z //history e1" in shown
    assert '    decided by purpose.use_case == "x"' in shown
    assert "    did not say purpose.use_case" in shown
    assert "nothing changes" in _on_a_terminal(recorded, "policy", "backtest", strict, "--against", strict)


def _on_a_terminal(pair: Pair, *arguments: str) -> str:
    """Return what a command writes where standard output is a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    try:
        environment = {**pair.environment, "COLUMNS": "80", "NO_COLOR": "1"}
        run = subprocess.Popen([COMMAND, *arguments], env=environment, cwd=pair.folder, stdout=theirs)
        os.close(theirs)
        shown = bytearray()
        with suppress(OSError):  # what a terminal says when the other end hangs up
            while piece := os.read(ours, 65_536):
                shown += piece
        assert run.wait(60) == 0
    finally:
        os.close(ours)
    return shown.decode().replace("\r\n", "\n")


def test_a_revision_of_next_year_is_tried_on_this_one(recorded: Pair, strict: str) -> None:
    """Without a time a revision that begins later judges nothing of the record; as of that time it judges all of it."""
    later = [{"version": 2, "from": "2099-01-01T00:00:00Z", "when": 'purpose.use_case == "x"'}]
    write(recorded.folder / "strict", {"policies/a.yaml": policy(pack="strict", revisions=later)})
    assert [one["added"] for one in _objects(recorded.run("policy", "backtest", strict))] == [0]
    [row] = _objects(recorded.run("policy", "backtest", strict, "--as-of", "2099-01-01", "--against", strict))
    assert (row["added"], row["versions"], row["examples"][0]["event_id"]) == (1, [2], "e1")
    [row] = _objects(recorded.run("report", "affected", "--since", "2099-01-01", "--pack", strict))
    assert (row["violations_before"], row["violations_after"]) == (0, 1)
    assert _objects(recorded.run("report", "affected", "--since", "2098-01-01", "--pack", strict)) == []


def test_bundles_are_named_by_their_hash_too(recorded: Pair, strict: str, quiet: str) -> None:
    """The bundle that judged is compared by the hash that the store keeps; its policies are gone in another one."""
    [row] = recorded.query("SELECT DISTINCT bundle FROM usage_events")
    found = _objects(recorded.run("policy", "backtest", strict, "--against", row["bundle"][:12]))
    assert [one["policy_id"] for one in found if one["added"]] == ["strict/a"]
    assert len(found) > 1
    only = _objects(recorded.run("policy", "backtest", f"{strict},{quiet}", "--policy=quiet/a"))
    assert [one["policy_id"] for one in only] == ["quiet/a"]


def test_rejudging_names_both_bundles_and_is_done_once(recorded: Pair, strict: str) -> None:
    """A finding names old and new bundle and its event; again nothing is recorded, and the row stays as it was."""
    before = recorded.query("SELECT * FROM usage_events ORDER BY event_id")
    dry = _objects(recorded.run("policy", "rejudge", strict, "--dry-run"))
    assert recorded.query("SELECT * FROM findings") == []
    assert _objects(recorded.run("policy", "rejudge", strict)) == dry
    assert [(one["violations"], one["cleared"], one["notices"]) for one in dry] == [(1, 0, 1)]
    [check] = _objects(recorded.run("policy", "check", strict))
    [row] = recorded.query("SELECT * FROM violations WHERE kind = 'rejudged'")
    assert (row["event_id"], row["policy_id"], row["stage"], row["bundle"]) == (
        "e1",
        "strict/a",
        "enforce",
        check["hash"],
    )
    assert row["message"].startswith("x by ")
    bundles = recorded.query("SELECT DISTINCT bundle, old_bundle FROM findings WHERE kind = 'rejudged'")
    assert bundles == [{"bundle": check["hash"], "old_bundle": before[0]["bundle"]}]
    kept = recorded.query("SELECT hash FROM bundles WHERE hash = {h:String}", {"h": check["hash"]})
    assert len(kept) == 1
    [again] = _objects(recorded.run("policy", "rejudge", strict))
    assert (again["violations"], again["cleared"], again["notices"]) == (0, 0, 0)
    assert len(recorded.query("SELECT * FROM findings")) == 2
    assert recorded.query("SELECT * FROM usage_events ORDER BY event_id") == before


@pytest.mark.parametrize("pair", ["embedded"], indirect=True)
def test_a_windowed_policy_is_not_judged_again(recorded: Pair) -> None:
    """Named for it, a policy with a window is an error that says what tells of it; others are judged without it."""
    chosen = ["policy", "rejudge", "hygiene", "--dry-run", "--policy"]
    done = subprocess.run(
        [COMMAND, *chosen, "hygiene/cost-budget"], env=recorded.environment, cwd=recorded.folder, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert "usageaudit policy backtest --policy hygiene/cost-budget" in done.stderr
    assert "cost-budget" not in recorded.run("policy", "rejudge", "hygiene", "--dry-run")


@pytest.mark.parametrize("pair", ["servers"], indirect=True)
def test_two_processes_rejudge_at_once(recorded: Pair, strict: str) -> None:
    """However two runs overlap, each difference is one finding."""
    _publish(recorded, *(_use(f"m{number}", "x") for number in range(300)))
    recorded.consume()
    command = [COMMAND, "policy", "rejudge", strict]
    runs = [
        subprocess.Popen(command, env=recorded.environment, cwd=recorded.folder, stdout=subprocess.DEVNULL)
        for _ in range(2)
    ]
    assert [run.wait(120) for run in runs] == [0, 0]
    counted = "SELECT count() AS n, uniqExact(event_id) AS events FROM violations WHERE kind = 'rejudged'"
    assert recorded.query(counted) == [{"n": 301, "events": 301}]


@pytest.fixture
def served(tmp_path: Path, quiet: str) -> Iterator[Pair]:
    """Yield an embedded pair that `usageaudit up` holds, with the same three events."""
    pair = Pair("embedded:./data", "embedded:./data", tmp_path)
    _publish(pair, _use("e1", "x"), _use("e2", "y"), _use("e3"))
    pair.consume()
    process = subprocess.Popen(
        [COMMAND, "up"],
        env=pair.environment,
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if "usageaudit.sock" in line or (tmp_path / "data" / "usageaudit.sock").exists():
                break
        yield pair
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


def test_a_running_service_answers_and_is_not_written_beside(served: Pair, strict: str) -> None:
    """While a service holds the folder, reports are asked of it; recording is refused with what to do."""
    [row] = _objects(served.run("policy", "backtest", strict))
    assert (row["added"], row["now_indeterminate"]) == (1, 1)
    assert _objects(served.run("report", "affected", "--since", CUT))
    [row] = _objects(served.run("policy", "rejudge", strict, "--dry-run"))
    assert row["violations"] == 1
    command = [COMMAND, "policy", "rejudge", strict]
    done = subprocess.run(
        command, env=served.environment, cwd=served.folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 3
    assert "stop that one first" in done.stderr


def test_an_empty_record_has_nothing_to_say(pair: Pair, strict: str) -> None:
    """Without events every figure is 0; without tables the command says how to make them; without data, what to run."""
    if pair.store.startswith("embedded"):
        pair.run("policy", "backtest", strict, code=2)
    else:
        pair.run("policy", "rejudge", strict, code=2)
    pair.run("migrate")
    [row] = _objects(pair.run("policy", "backtest", strict))
    assert (row["violations_after"], row["examples"]) == (0, [])
    [row] = _objects(pair.run("policy", "rejudge", strict))
    assert row["violations"] == 0
    assert pair.query("SELECT * FROM bundles") == []


BAD = {
    "no such bundle": ["policy", "backtest", "no-such-pack"],
    "unknown hash": ["policy", "backtest", "0123456789abcdef"],
    "unknown hash against": ["policy", "backtest", PACK, "--against", "0123456789abcdef"],
    "no time": ["policy", "backtest", PACK, "--since", "yesterday"],
    "no day": ["policy", "backtest", PACK, "--until", "2024-02-31"],
    "no zone": ["policy", "backtest", PACK, "--as-of", "2024-02-03T00:00:00"],
    "backwards": ["policy", "backtest", PACK, "--since", "2024-05-01", "--until", "2024-05-01"],
    "unknown policy": ["policy", "backtest", PACK, "--policy", f"{PACK}/romantic-chatbots"],
    "no examples": ["policy", "backtest", PACK, "--examples", "-1"],
    "no dimension": ["policy", "backtest", PACK, "--by", "colour"],
    "broken bundle": ["policy", "backtest", "./broken"],
    "affected without a time": ["report", "affected"],
    "affected at no time": ["report", "affected", "--since", "May"],
    "rejudge a broken bundle": ["policy", "rejudge", "./broken"],
    "rejudge unknown policy": ["policy", "rejudge", PACK, "--policy", "x/y"],
}


def test_bad_input_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """Each mistake ends with exit code 2 and a line that names it; nothing is written, and there is no traceback."""
    pair = Pair("embedded:./data", "embedded:./data", tmp_path)
    pair.run("migrate")
    write(
        tmp_path / "broken",
        {"bundle.yaml": "name: broken", "policies/a.yaml": policy("actor.sectr == 'x'", pack="broken")},
    )
    for name, arguments in BAD.items():
        done = subprocess.run(
            [COMMAND, *arguments],
            env=pair.environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stdout) == (2, ""), name
        assert "Traceback" not in done.stderr, name
        assert done.stderr.strip(), name
