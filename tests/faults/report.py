"""The report of the fault suite: campaigns append lines, `python -m tests.faults.report` makes docs/faults.md of them.

A line is one JSON object in the file that USAGEAUDIT_TEST_FAULT_REPORT names (nothing is written where it names none):

    victim      what the fault strikes, a section of the report: "publisher", "broker", "consumer", "store", "replicas"
    fault       what is done to it, in a few words: "kill -9", "taken over while it writes"
    point       where: "after insert"; "" where it is anywhere
    control     the protection that was turned off, "" for the campaign itself
    tries       faults injected at that point
    also        faults injected elsewhere in the same campaign, to bring it about
    events      events that were acknowledged
    lost        acknowledged events that the ledger does not hold as accepted
    doubled     accepted more often than once, or offsets recorded more often than once, whichever is more
    wrong       other differences: unreported holes, aggregates, bundles that the store does not have
    recovered_s the median and the largest number of seconds from a fault to the next recorded batch; [] if not measured
    at          when, in UTC

Whoever runs campaigns elsewhere calls `append(Line(...))`. Several lines of one campaign add up.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import sys
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "faults.md"
START, END = "<!-- begin: python -m tests.faults.report -->", "<!-- end: python -m tests.faults.report -->"


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, slots=True)
class Line:
    """What a campaign found; see the module for the fields."""

    victim: str
    fault: str
    point: str
    tries: int
    events: int
    lost: int
    doubled: int
    control: str = ""
    also: int = 0
    wrong: int = 0
    recovered_s: Sequence[float] = ()
    at: str = field(default_factory=_now)


def lines_file() -> Path | None:
    """Return the file that lines are appended to, None where there is none."""
    name = os.environ.get("USAGEAUDIT_TEST_FAULT_REPORT")
    return Path(name) if name else None


def append(line: Line) -> None:
    """Append a line to the report's file, if there is one."""
    if (path := lines_file()) is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as out:
            out.write(json.dumps(asdict(line)) + "\n")


def read(path: Path) -> list[Line]:
    """Return the lines of a file."""
    return [Line(**json.loads(text)) for text in path.read_text(encoding="utf-8").splitlines()]


Key = tuple[str, str, str, str]


def _added_up(lines: Iterable[Line]) -> Mapping[Key, Line]:
    """Return one line for each campaign, in the order in which they first came."""
    groups: dict[Key, list[Line]] = defaultdict(list)
    for line in lines:
        groups[line.victim, line.fault, line.point, line.control].append(line)
    return {key: _sum(group) for key, group in groups.items()}


def _sum(group: Sequence[Line]) -> Line:
    medians = sorted(line.recovered_s[0] for line in group if line.recovered_s)
    slowest = [line.recovered_s[1] for line in group if line.recovered_s]
    return Line(
        *(group[0].victim, group[0].fault, group[0].point),
        tries=sum(line.tries for line in group),
        events=sum(line.events for line in group),
        lost=sum(line.lost for line in group),
        doubled=sum(line.doubled for line in group),
        control=group[0].control,
        also=sum(line.also for line in group),
        wrong=sum(line.wrong for line in group),
        recovered_s=[medians[len(medians) // 2], max(slowest)] if medians else [],
        at=max(line.at for line in group),
    )


def tables(lines: Iterable[Line]) -> str:
    """Return the tables of the report, one for each victim, after a table of totals."""
    added = _added_up(lines)
    campaigns = [line for line in added.values() if not line.control]
    victims = list(dict.fromkeys(line.victim for line in added.values()))
    head = ["victim", "faults", "events", "lost", "doubled", "otherwise wrong", "controls that failed as they should"]
    rows = [_totals(victim, list(added.values())) for victim in victims]
    parts = [_table(head, [*rows, _totals("", list(added.values()))] if rows else rows)]
    for victim in victims:
        shown = [_row(line, added.values()) for line in campaigns if line.victim == victim]
        parts += [f"### {victim.capitalize()}", _table(HEAD, shown)]
    return "\n\n".join(parts)


HEAD = ["fault", "point", "tries", "events", "lost", "doubled", "back after, s", "with the protection off"]


def _totals(victim: str, added: Sequence[Line]) -> list[str]:
    chosen = [line for line in added if victim in ("", line.victim)]
    done, controls = [line for line in chosen if not line.control], [line for line in chosen if line.control]
    failed = sum(line.lost + line.doubled + line.wrong > 0 for line in controls)
    counts = [
        sum(line.tries + line.also for line in done),
        *(sum(getattr(line, name) for line in done) for name in ("events", "lost", "doubled", "wrong")),
    ]
    return [victim or "**all**", *(f"{count:,}" for count in counts), f"{failed} of {len(controls)}"]


def _row(line: Line, added: Iterable[Line]) -> list[str]:
    controls = [
        one
        for one in added
        if one.control and (one.victim, one.fault, one.point) == (line.victim, line.fault, line.point)
    ]
    back = "{:.1f}, at most {:.1f}".format(*line.recovered_s) if line.recovered_s else ""
    wrong = f" ({line.wrong:,} otherwise wrong)" if line.wrong else ""
    return [
        *(line.fault, line.point, f"{line.tries:,}", f"{line.events:,}", f"{line.lost:,}", f"{line.doubled:,}{wrong}"),
        *(back, "; ".join(_said(control) for control in controls)),
    ]


def _said(control: Line) -> str:
    found = {"lost": control.lost, "doubled": control.doubled, "otherwise wrong": control.wrong}
    said = ", ".join(f"{count:,} {name}" for name, count in found.items() if count) or "**nothing found**"
    return f"{control.control}: {said} in {control.tries}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def written(page: str, lines: Sequence[Line]) -> str:
    """Return the page with the tables of these lines between its marks."""
    before, _, rest = page.partition(START)
    _, _, after = rest.partition(END)
    days = sorted(line.at[:10] for line in lines)
    said = f"Measured from {days[0]} to {days[-1]}." if days[0] != days[-1] else f"Measured on {days[0]}."
    return f"{before}{START}\n\n{said}\n\n{tables(lines)}\n\n{END}{after}"


def main(arguments: Sequence[str]) -> int:
    """Write the report from the files named, or from the one of the environment."""
    files = [Path(name) for name in arguments] or [path for path in [lines_file()] if path]
    lines = [line for path in files for line in read(path)]
    if not lines:
        print("no lines: name the files, or set USAGEAUDIT_TEST_FAULT_REPORT", file=sys.stderr)
        return 2
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), lines), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
