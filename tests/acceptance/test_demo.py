"""The demonstration: what it shows is what it recorded, and what it says to type works."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.acceptance.conftest import COMMAND
from usageaudit.cloudevents import decode, encode_structured
from usageaudit.demo.folder import MARK
from usageaudit.demo.mishaps import RESENT, bad_records, resent
from usageaudit.demo.scenarios import scenarios
from usageaudit.demo.showing import bar
from usageaudit.demo.week import SEED, WEEK_START, events_of_week
from usageaudit.errors import InvalidEvent
from usageaudit.events.times import to_micros
from usageaudit.stores.address import EmbeddedAddress, parse_store_url
from usageaudit.stream_url import EmbeddedStreamAddress, parse_stream_url

if TYPE_CHECKING:
    from collections.abc import Mapping

SECONDS = 240
PLAIN = {name: value for name, value in os.environ.items() if not name.startswith("USAGEAUDIT_")}


def _demo(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, "demo", *arguments], cwd=folder, env={**PLAIN, **environment}, capture_output=True, text=True,
        timeout=SECONDS,
    )  # fmt: skip


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return the folder in which the demonstration ran, and what it printed where there is no terminal."""
    folder = tmp_path_factory.mktemp("demo")
    done = _demo(folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def _environment(folder: Path) -> Mapping[str, str]:
    url = f"embedded:{folder}/usageaudit-demo"
    return {
        **PLAIN,
        "USAGEAUDIT_STREAM": url,
        "USAGEAUDIT_STORE": url,
        "PATH": f"{Path(COMMAND).parent}:{PLAIN['PATH']}",
    }


def _ask(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [COMMAND, *arguments, "--format=ndjson"], env=_environment(folder), capture_output=True, text=True, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_counts_reconcile_with_what_was_published(shown: tuple[Path, str]) -> None:
    """Every published record is in the record, with the status that it was made for."""
    folder, text = shown
    rows = _ask(folder, "verify")
    total = {name: sum(row[name] for row in rows) for name in ("consumed", "accepted", "duplicate", "rejected")}
    week, bad = len(events_of_week()), len(bad_records())
    assert total == {
        "consumed": week + 44 + RESENT + bad,
        "accepted": week + 44,
        "duplicate": RESENT,
        "rejected": bad,
    }
    line = next(line for line in text.splitlines() if line.split()[:1] == ["all"])
    assert line.split() == ["all", *(f"{total[name]:,}" for name in total), "adds", "up"]
    assert "DOES NOT ADD UP" not in text


def test_every_scenario_is_judged_as_the_pack_says(shown: tuple[Path, str]) -> None:
    """All scenario events, before and after the change, have the verdicts of the shipped tests."""
    assert "44 of 44 scenario events were judged as the tests of the pack say." in shown[1]


def test_the_change_shows_whom_it_affects(shown: tuple[Path, str]) -> None:
    """Organisations that the change newly affects are marked, and those that it does not are not."""
    marked = {line.split()[0] for line in shown[1].splitlines() if line.endswith("newly affected")}
    assert {"gendarmerie-fr", "county-sheriff"} <= marked
    assert not {"city-police-de", "city-police-us"} & marked


def test_somebody_was_told(shown: tuple[Path, str]) -> None:
    """The alerts that arrived are those that the record has as delivered, with the id that is shown."""
    folder, text = shown
    (arrived,) = re.findall(r"arrived +(\d+) alerts, each verified by its signature", text)
    (delivery,) = re.findall(r"delivery +([0-9a-f]{32})", text)
    rows = _ask(folder, "alerts", "list")
    assert len(rows) == int(arrived) > 0
    assert {row["state"] for row in rows} == {"delivered"}
    assert delivery in {row["delivery_id"] for row in rows}


def test_every_status_and_verdict_shows(shown: tuple[Path, str]) -> None:
    """Violations of every policy of the pack, undecided uses and failed calls are there."""
    text = shown[1]
    for expected in (
        "us-police-facial-recognition",
        "real-time-facial-recognition-on-mobile-cameras",
        "sensitive-attribute-inference",
        "manipulation-or-deception",
        "romantic-chatbot",
        "social-scoring",
        "legacy-crm",
        "purpose.use_case",
        "rejected: ",
    ):
        assert expected in text


def test_report_reads_without_colour_in_80_columns(shown: tuple[Path, str]) -> None:
    """Where there is no terminal there is no escape sequence, and only lines to copy are longer than 80 columns."""
    report, _, commands = shown[1].partition("Next, type")
    assert "\x1b" not in shown[1]
    assert max(len(line) for line in report.splitlines()) <= 80
    assert " USAGEAUDIT_STREAM=" in commands


def test_commands_to_type_work(shown: tuple[Path, str]) -> None:
    """Each line below "Next, type" runs as it stands, in one shell, and all but hints end with 0."""
    folder, text = shown
    lines = [line.strip() for line in text.partition("Next, type")[2].splitlines() if line.startswith("  ")]
    assert len(lines) >= 6
    script = "set -e\n" + "\n".join(lines)
    done = subprocess.run(["bash", "-c", script], cwd=folder, env=_environment(folder), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_second_run_starts_anew_and_keep_adds_duplicates(tmp_path: Path) -> None:
    """A folder of the demonstration is made anew; with --keep the same events become duplicates."""
    assert _demo(tmp_path, "--data", "mine").returncode == 0
    (tmp_path / "mine" / "left-over").write_text("x")
    assert _demo(tmp_path, "--data", "mine").returncode == 0
    assert not (tmp_path / "mine" / "left-over").exists()
    again = _demo(tmp_path, "--data", "mine", "--keep")
    assert again.returncode == 0, again.stderr
    line = next(line for line in again.stdout.splitlines() if line.split()[:1] == ["all"])
    _, consumed, accepted, duplicate, rejected, *_ = line.replace(",", "").split()
    week, bad = len(events_of_week()), len(bad_records())
    assert list(map(int, (consumed, accepted, duplicate, rejected))) == [
        2 * (week + 44 + RESENT + bad),
        week + 44,
        2 * RESENT + week + 44,
        2 * bad,
    ]


def test_folders_of_others_are_not_touched(tmp_path: Path) -> None:
    """A folder that holds anything else is refused, and stays as it is."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "precious").write_text("x")
    done = _demo(tmp_path, "--data", "other")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert [path.name for path in other.iterdir()] == ["precious"]
    (tmp_path / "file").write_text("x")
    assert _demo(tmp_path, "--data", "file").returncode == 2


def test_folder_that_is_served_is_not_emptied(shown: tuple[Path, str]) -> None:
    """While a service runs on the folder the demonstration refuses to make it anew."""
    folder, _ = shown
    process = subprocess.Popen([COMMAND, "up"], env=_environment(folder), cwd=folder, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        assert any("partition taken over" in line for line in process.stderr)
        done = _demo(folder)
        assert done.returncode == 2
        assert "stop it" in done.stderr
    finally:
        process.kill()
        process.communicate()
    assert (folder / "usageaudit-demo" / MARK).exists()


def test_week_is_always_the_same() -> None:
    """Equal seeds give equal events, other seeds others."""
    assert events_of_week(1) == events_of_week(1)
    assert events_of_week(1) != events_of_week(2)


def test_events_are_valid_and_lie_in_the_week() -> None:
    """Every simulated event and scenario is a usage event without unknown fields, every bad record is none."""
    week = events_of_week()
    start = to_micros(WEEK_START)
    assert all(start <= event.time < start + 7 * 86_400_000_000 for event in week)
    assert len({(event.source, event.id) for event in week}) == len(week)
    for event in (*week[::50], *(one.event for one in scenarios())):
        line = encode_structured(
            event_id=event.id, source=event.source, time=event.time, data=json.dumps(event.data).encode()
        )
        assert decode(line).unknown_fields == 0
    for record in bad_records():
        with pytest.raises(InvalidEvent):
            decode(record)
    assert len(resent(week, SEED)) == RESENT


def test_publishers_number_their_events_without_gaps() -> None:
    """Each instance counts from 1 on, so that the demonstration shows no loss where there is none."""
    numbers: dict[str, list[int]] = {}
    for event in events_of_week():
        stamp = event.data["publisher"]
        numbers.setdefault(stamp["instance"], []).append(stamp["sequence"])
    assert all(sorted(found) == list(range(1, len(found) + 1)) for found in numbers.values())


@pytest.mark.parametrize(("service", "trace"), [("support-chat", "conv"), ("code-assist", "code")])
def test_tokens_are_shaped_like_real_traffic(service: str, trace: str, test_data: Path) -> None:
    """Medians and tails of simulated tokens lie near those of the trace that they follow."""
    rows = (test_data / f"azure_llm_trace_2023_{trace}.csv").read_text().splitlines()[1:]
    real = [tuple(map(int, row.split(",")[1:])) for row in rows]
    ours = [
        (event.data["usage"]["input_tokens"], event.data["usage"]["output_tokens"])
        for event in events_of_week()
        if event.data["application"]["name"] == service and "output_tokens" in event.data["usage"]
    ]
    for place in (0, 1):
        for share in (0.25, 0.5, 0.75, 0.9, 0.95):
            expected, found = (_quantile([one[place] for one in many], share) for many in (real, ours))
            assert found == pytest.approx(expected, rel=0.2, abs=2), (place, share)


def _quantile(values: list[int], share: float) -> int:
    return sorted(values)[int(share * (len(values) - 1))]


def test_costs_follow_tokens() -> None:
    """Every amount is a decimal as events write them, and failed calls cost nothing."""
    for event in events_of_week():
        cost = event.data.get("cost")
        assert (cost is None) == (event.data["outcome"]["status"] != "ok")
        if cost is not None:
            assert re.fullmatch(r"\d+(\.\d{1,9})?", cost["amount"])
            assert Decimal(cost["amount"]) >= 0


@given(st.floats(0, 1e6), st.floats(1, 1e6), st.integers(1, 60), st.booleans())
def test_bars_keep_their_width(value: float, most: float, width: int, unicode: bool) -> None:
    """A bar is as long as its share of the width, something is always seen of what is not nothing, in any alphabet."""
    drawn = bar(min(value, most), most, width, unicode=unicode)
    assert len(drawn) <= width
    assert bool(drawn) == (value > 0)
    assert len(bar(most, most, width, unicode=unicode)) == width


def test_terminals_without_unicode_are_served(tmp_path: Path) -> None:
    """Where the terminal has only ASCII the report is printed all the same."""
    done = _demo(tmp_path, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    assert "####" in done.stdout


def test_folder_names_survive_the_shell(tmp_path: Path) -> None:
    """The lines to type quote a folder whose name needs it."""
    done = _demo(tmp_path, "--data", "my demo")
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if "export" in line)
    stream, store = (one.partition("=")[2] for one in shlex.split(line)[-2:])
    assert parse_stream_url(stream) == EmbeddedStreamAddress(Path("my demo"))
    assert parse_store_url(store) == EmbeddedAddress(Path("my demo"))
