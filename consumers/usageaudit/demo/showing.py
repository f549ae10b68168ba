"""Prints what the demonstration found: tables and bars that read the same without colour and in 80 columns."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from usageaudit.demo import questions
from usageaudit.demo.questions import rows
from usageaudit.stream_url import EmbeddedStreamAddress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, RenderableType

    from usageaudit.alerts.receiving import Arrival
    from usageaudit.demo.running import Published
    from usageaudit.stores.port import Store

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_CHANGE = f"{questions.CHANGE.day} {questions.CHANGE:%B %Y}"


def show(console: Console, store: Store, published: Published, changed: Sequence[str]) -> None:
    """Print every part of the report; `changed` are the policies that the change revised."""
    _show_counts(console, store, published)
    _show_usage(console, store)
    _show_violations(console, store)
    _show_change(console, store, changed)
    _show_undecided(console, store)
    _show_example(console, store)


def _heading(console: Console, text: str) -> None:
    console.print()
    console.print(Text(text, style="bold"))


def _indented(console: Console, *parts: RenderableType) -> None:
    console.print(Padding(Group(*parts), (0, 0, 0, 2), expand=False))


def _table(*columns: str, left: Sequence[int] = (0,), wide: Sequence[int] = ()) -> Table:
    """Return a table without a box; columns are aligned to the right but for those in `left`, and only `wide` wrap."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for place, name in enumerate(columns):
        table.add_column(
            name,
            justify="left" if place in left else "right",
            overflow="fold" if place in wide else "ellipsis",
            no_wrap=place not in wide,
        )
    return table


def bar(value: float, most: float, width: int, *, unicode: bool = True) -> str:
    """Return a bar of `width` characters for the largest value, in eighths of a character where they can be printed."""
    share = value / most if most else 0.0
    if not unicode:
        return "#" * max(round(share * width), 1 if value else 0)
    eighths = max(round(share * width * 8), 1 if value else 0)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _bar(console: Console, value: float, most: float, width: int, style: str = "cyan") -> Text:
    return Text(bar(value, most, width, unicode=console.encoding.startswith("utf")), style=style)


def _show_counts(console: Console, store: Store, published: Published) -> None:
    _heading(console, "Every record is accounted for")
    counted = rows(store, questions.COUNTS)
    names = ("consumed", "accepted", "duplicate", "rejected")
    table = _table("partition", *names, "")
    for row in counted:
        table.add_row(row["partition"], *(f"{row[name]:,}" for name in names), _sums(row))
    total = {name: sum(row[name] for row in counted) for name in names}
    table.add_row("all", *(f"{total[name]:,}" for name in names), _sums(total), style="bold")
    _indented(console, table)
    text = (
        f"published: {published.week:,} uses of a week, {published.scenarios} scenario events, {published.resent} sent "
        f"twice, {published.bad} that are no events. consumed = accepted + duplicate + rejected in every partition."
    )
    reasons = [
        Text(f"rejected: {row['error']}", style="dim", overflow="ellipsis", no_wrap=True) for row in _errors(store)
    ]
    _indented(console, Text(text), *reasons)


def _errors(store: Store) -> list[dict[str, Any]]:
    return rows(store, questions.REJECTED)[:3]


def _sums(row: dict[str, Any]) -> str:
    return "adds up" if row["consumed"] == row["accepted"] + row["duplicate"] + row["rejected"] else "DOES NOT ADD UP"


def _show_usage(console: Console, store: Store) -> None:
    _heading(console, "Who used how much in the week from 29 April 2024")
    used = rows(store, questions.USAGE)
    width = max(10, min(console.width - 66, 34))
    table = _table("application", "uses", "", "failed", "tokens", "USD", left=(0, 2))
    most = max(row["events"] for row in used)
    for row in used:
        bars = _bar(console, row["events"], most, width)
        failed = f"{row['failed'] / row['events']:.1%}"
        table.add_row(
            row["application_name"], f"{row['events']:,}", bars, failed, _short(row["tokens"]), f"{row['cost']:,.2f}"
        )
    _indented(console, table)
    days = rows(store, questions.DAYS)
    most = max(row["events"] for row in days)
    table = _table("day", "uses", "", left=(0, 2))
    for row in days:
        table.add_row(f"{row['day']:%a %d %b}", f"{row['events']:,}", _bar(console, row["events"], most, width + 10))
    console.print()
    _indented(console, table)


def _short(tokens: int) -> str:
    return f"{tokens / 1e6:,.1f} M" if tokens >= 1e6 else f"{tokens / 1e3:,.0f} k" if tokens else "-"


def _show_violations(console: Console, store: Store) -> None:
    _heading(console, "What broke the code of conduct of the model vendor")
    found = rows(store, questions.VIOLATIONS)
    width = max(8, min(console.width - 68, 34))
    most = max((row["violations"] for row in found), default=0)
    table = _table("policy", "severity", "uses", "", left=(0, 1, 3))
    for row in found:
        style = "red" if row["severity"] == "critical" else "yellow"
        bars = _bar(console, row["violations"], most, width, style)
        table.add_row(row["policy"], row["severity"], f"{row['violations']:,}", bars)
    _indented(console, table)
    right, wrong = questions.scenarios_as_expected(store)
    text = f"{right} of {right + len(wrong)} scenario events were judged as the tests of the pack say."
    _indented(console, Text(text + (f" Not so: {', '.join(wrong)}" if wrong else "")))


def _show_change(console: Console, store: Store, changed: Sequence[str]) -> None:
    _heading(console, f"What the change of {_CHANGE} did: uses for facial recognition that break the code")
    width = max(10, min(console.width - 40, 40))
    days = rows(store, questions.CHANGED_BY_DAY, {"changed": list(changed)})
    most = max((row["uses"] for row in days), default=0)
    table = _table("day", "violating", "of", "", left=(0, 3))
    for row in days:
        bars = _bar(console, row["violating"], most, width, "red")
        style = "bold" if row["day"] == questions.CHANGE else ""
        table.add_row(f"{row['day']:%a %d %b}", f"{row['violating']}", f"{row['uses']}", bars, style=style)
    _indented(console, table)
    table = _table("organisation", "", "before", "from then on", "", left=(0, 1, 4))
    for row in rows(store, questions.AFFECTED, {"change": questions.CHANGE, "changed": list(changed)}):
        mark = Text("newly affected", style="bold red") if row["newly"] else ""
        before = f"{row['violations_before']} of {row['uses_before']}"
        after = f"{row['violations_after']} of {row['uses_after']}"
        table.add_row(row["organization"], row["jurisdiction"], before, after, mark)
    console.print()
    _indented(console, table)


def _show_undecided(console: Console, store: Store) -> None:
    _heading(console, "What could not be decided, because services did not say enough")
    all_events = {row["application_name"]: row["events"] for row in rows(store, questions.APPLICATION_EVENTS)}
    table = _table("application", "undecided", "share", "would need", left=(0, 3), wide=(3,))
    for row in rows(store, questions.UNDECIDED):
        share = row["events"] / all_events[row["application_name"]]
        table.add_row(row["application_name"], f"{row['events']:,}", f"{share:.0%}", ", ".join(row["missing_fields"]))
    _indented(console, table)


def _show_example(console: Console, store: Store) -> None:
    _heading(console, "One violation, as the record keeps it")
    (row,) = rows(store, questions.EXAMPLE)
    evidence = orjson.loads(row["evidence"])
    table = _table("", "", left=(0, 1), wide=(1,))
    table.show_header = False
    table.add_row("when", f"{row['event_time']:%Y-%m-%d %H:%M:%S} UTC")
    table.add_row("policy", row["policy_id"])
    table.add_row("severity", row["severity"])
    table.add_row("message", row["message"])
    table.add_row("evidence", ", ".join(f"{name} = {value}" for name, value in evidence.items()))
    table.add_row("event", f"{row['event_source']} {row['event_id']}")
    table.add_row("judged by", f"bundle {row['bundle'][:16]}…")
    _indented(console, table)


def show_alerts(console: Console, arrivals: Sequence[Arrival]) -> None:
    """Print what arrived at the receiver, the first alert as an example."""
    if not arrivals:
        return
    _heading(console, "Somebody was told: signed webhooks, received in this process")
    first = arrivals[0].data
    table = _table("", "", left=(0, 1), wide=(1,))
    table.show_header = False
    table.add_row("arrived", f"{len(arrivals)} alerts, each verified by its signature")
    table.add_row("the first", f"{first['severity']}: {first['message']} ({first['application']})")
    table.add_row("delivery", arrivals[0].delivery_id)
    _indented(console, table)


def next_commands(store: Store, folder: Path) -> list[str]:
    """Return the command lines to try next, which work as they stand."""
    (row,) = rows(store, questions.EXAMPLE)
    change = f"--param date={questions.CHANGE}"
    data = shlex.quote(str(EmbeddedStreamAddress(folder)))
    return [
        f"export {_path()}USAGEAUDIT_STREAM={data} USAGEAUDIT_STORE={data}",
        "usageaudit verify",
        "usageaudit query latest-violations",
        f"usageaudit query affected-by-policy --param policy={row['policy_id']} {change}",
        f"usageaudit policy explain --event {row['event_source']} {row['event_id']}",
        "usageaudit alerts list",
        "usageaudit rejects list",
        'usageaudit query "SELECT model_name, sum(cost) FROM usage_daily GROUP BY model_name"',
        "usageaudit query --list",
    ]


def _path() -> str:
    """Return what puts this installation's commands on the path, where a shell would not find them."""
    here = Path(sys.executable).parent
    found = shutil.which("usageaudit")
    return "" if found and Path(found).parent == here else f'PATH={shlex.quote(str(here))}:"$PATH" '


def show_next(console: Console, store: Store, folder: Path) -> None:
    """Print the command lines to try next, unbroken so that they can be copied."""
    _heading(console, "Next, type")
    for line in next_commands(store, folder):
        console.print(Text(f"  {line}"), soft_wrap=True)
