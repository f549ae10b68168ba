"""docs/windows.md is true: its policies pass the checks and tests as they stand, and its pictures are what is found."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.documents import ROOT, Reader, code_blocks
from tests.unit.policy.bundles import bundle_of, policy
from usageaudit.history.windowtests import run_window_tests
from usageaudit.policy.windows.model import KINDS

if TYPE_CHECKING:
    from pathlib import Path

PAGE = ROOT / "docs" / "windows.md"
TEXT = PAGE.read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    return [block.text for block in code_blocks(PAGE) if block.language == language]


def test_the_policies_of_the_page_pass(tmp_path: Path) -> None:
    """The page's policies make a bundle that the page's commands check, test, describe and lock."""
    folder = tmp_path / "own"
    (folder / "policies").mkdir(parents=True)
    (folder / "bundle.yaml").write_text("name: own\n")
    (folder / "lists.yaml").write_text("failed_calls_an_hour: [20]\n")
    for number, text in enumerate(_blocks("yaml")):
        (folder / "policies" / f"{number}.yaml").write_text(text)
    (script,) = _blocks("sh")
    reader = Reader(tmp_path)
    check, tests, page, _ = [reader.types(line) for line in script.splitlines()]
    # The first policy of the page shows no test.
    assert json.loads(check)["warnings"] == 1
    assert (json.loads(tests)["tests"], json.loads(tests)["failed"]) == (4, 0)
    assert "Decided over many events: how many events count within 10 seconds, for each `application.name`." in page
    assert "adds up to since the beginning of the month in Europe/Paris" in page
    assert (folder / "policy.lock").is_file()


def test_every_kind_is_on_the_page() -> None:
    """Each kind has a row of the table, and what it is held to."""
    assert re.findall(r"(?m)^\| `([a-z_]+)` \|.*\|.*\|.*\|$", TEXT) == list(KINDS)


CHAT = {"kind": "event_count", "over": "10s"}
USE = 'purpose.use_case == "{}"'


def _stream(*events: tuple[float, str]) -> list[dict[str, Any]]:
    """Return events of a use case, so many seconds after nine o'clock; their ids are the use case and the second."""
    return [
        {"id": f"{use}{second}", "time": f"2026-03-01T09:00:{second:02}Z", "event": {"purpose": {"use_case": use}}}
        for second, use in events
    ]


def _x(*seconds: int) -> list[dict[str, Any]]:
    return _stream(*((second, "x") for second in seconds))


def _on(*times: str) -> list[dict[str, Any]]:
    return [{"id": f"e{number}", "time": time, "event": {}} for number, time in enumerate(times)]


STEPS = {**CHAT, "kind": "temporal_ordered", "steps": [USE.format(word) for word in "abc"]}
WAIT = {
    **CHAT, "kind": "absence", "expect": USE.format("B"), "heartbeat": {"when": "true", "every": "20s"}
}  # fmt: skip
PARIS = {"kind": "event_count", "over": "calendar day", "zone": "Europe/Paris"}
MONTH = {"kind": "event_count", "over": "calendar month", "zone": "UTC"}
DAYS = _on(
    *("2024-03-30T10:00:00Z", "2024-03-30T15:00:00Z", "2024-03-30T22:59:59Z", "2024-03-30T23:00:00Z"),
    *("2024-03-31T21:59:59Z", "2024-03-31T22:00:00Z"),
)
AGAIN = {"kind": "first_seen", "over": "10s", "group_by": ["application.name"]}
REVISED = [
    {"version": 1, "when": "true", "condition": "value > 100", "to": "2025-03-10"},
    {"version": 2, "when": "true", "condition": "value > 50", "from": "2025-03-10"},
]
TOKENS = {**MONTH, "kind": "value_sum", "field": "usage.input_tokens"}
PICTURES: dict[str, tuple[dict[str, Any], str | None, list[dict[str, Any]], list[dict[str, Any]]]] = {
    "bursts": (CHAT, "value >= 3", _x(0, 2, 6, 16, 18, 20), [{"at": "x6", "value": 3}, {"at": "x20", "value": 3}]),
    "going on": (CHAT, "value >= 3", _x(*range(0, 18, 2)), [{"at": "x4"}]),
    "ties": (CHAT, "value >= 3", [*_x(0, 2, 4), {**_x(4)[0], "id": "tie"}], [{"at": "tie", "value": 4}]),
    "ties hide": (CHAT, "value == 3", [*_x(0, 2, 4), {**_x(4)[0], "id": "tie"}], []),
    "a day of 23 hours": (
        PARIS,
        "value >= 3",
        DAYS,
        [{"at": "e2", "window_start": "2024-03-29T23:00:00Z", "window_end": "2024-03-30T23:00:00Z"}],
    ),
    "the end of a month": (
        MONTH,
        "value >= 2",
        _on("2024-01-31T23:59:59Z", "2024-02-01T00:00:00Z", "2024-02-29T23:59:59Z", "2024-03-01T00:00:00Z"),
        [{"at": "e2", "window_end": "2024-03-01T00:00:00Z"}],
    ),
    "a is out": (STEPS, None, _stream((0, "a"), (4, "b"), (10, "c")), []),
    "a sequence": (STEPS, None, _stream((1, "a"), (4, "b"), (6, "b"), (10, "c")), [{"at": "c10"}]),
    "waits": (
        WAIT,
        None,
        _stream((0, "A"), (6, "B"), (10, "A"), (14, "A"), (20, "z")),
        [{"window_start": "2026-03-01T09:00:10Z", "window_end": "2026-03-01T09:00:20Z"}],
    ),
    "seen again": (AGAIN, None, _x(0, 4, 18), [{"at": "x0"}, {"at": "x18"}]),
    "revisions": (
        TOKENS,
        None,
        [
            {"id": f"d{day}", "time": f"2025-03-{day:02}", "event": {"usage": {"input_tokens": tokens}}}
            for day, tokens in ((2, 70), (13, 1), (14, 1))
        ],
        [{"at": "d13", "value": 71, "window_end": "2025-04-01T00:00:00Z"}],
    ),
    "a late event": (CHAT, "value >= 3", _x(0, 2, 10, 4), [{"at": "x4"}]),
}


@pytest.fixture(scope="module")
def problems() -> dict[str, str]:
    """Return what is not as a picture shows it, by its name; the engine is started once for all of them."""
    texts = []
    for number, (name, (window, condition, events, expect)) in enumerate(PICTURES.items()):
        when = USE.format("A") if window["kind"] == "absence" else "true"
        more: dict[str, Any] = {"condition": condition} if condition else {}
        if window is TOKENS:
            more["revisions"] = REVISED
        tests = [{"name": name, "events": events, "expect": expect}]
        texts.append(policy(when, name=f"p{number}", window=window, tests=tests, **more))
    return {outcome.test.name: outcome.problem for outcome in run_window_tests(bundle_of(*texts))}


@pytest.mark.parametrize("name", PICTURES)
def test_what_a_picture_shows_is_found(name: str, problems: dict[str, str]) -> None:
    """The events of a picture give the findings of the picture, at its times and with its windows."""
    assert problems[name] == ""


def test_every_picture_is_tried() -> None:
    """A picture that is added to the page needs its events here."""
    assert len(_blocks("")) == 10
