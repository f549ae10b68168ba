"""Medians, ratios and tables of what was measured."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.benchmarks.compare import Difference
    from tests.benchmarks.history import History
    from tests.benchmarks.meter import Cost
    from tests.benchmarks.paths import Name
    from tests.benchmarks.publisher import PublisherCost
    from tests.benchmarks.stages import Stages

Repetition = dict["Name", "Cost"]

TITLES: Mapping[Name, str] = {
    "ours": "usageaudit consume",
    "idiomatic": "idiomatic Python",
    "kafka_engine": "Kafka engine, SQL",
}
TARGETS: Sequence[tuple[Name, float]] = (("idiomatic", 0.5), ("kafka_engine", 2.5))
"""Ours costs at most so many times what the peer costs, consumer and ClickHouse together."""
NONE = "-"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, the first column to the left and the others to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(head, *rows, strict=True)]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join("| " + " | ".join(_padded(line, widths)) + " |" for line in lines)


def _padded(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    pads = (
        cell.ljust(width) if place == 0 else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return list(pads)


def paths_table(repetitions: Sequence[Repetition], starts: Sequence[Repetition], events: int) -> str:
    """Return medians of the paths, net of starting; the last columns are ratios within each repetition."""
    head = (
        *("path", "events/s", "consumer µs", "ClickHouse µs", "total µs", "to engine", "to idiomatic"),
        *("merge µs", "broker µs", "peak MB", "start s", "start CPU s"),
    )
    rows = []
    for name in repetitions[0]:
        costs, started = [one[name] for one in repetitions], [one[name] for one in starts]
        rows.append(
            (
                TITLES[name],
                _rate(costs, events),
                _micros(costs, events, lambda cost: cost.consumer),
                _micros(costs, events, lambda cost: cost.clickhouse),
                _micros(costs, events, lambda cost: cost.total),
                *(_ratio(repetitions, name, to) for to in ("kafka_engine", "idiomatic")),
                _micros(costs, events, lambda cost: cost.merge),
                _micros(costs, events, lambda cost: cost.kafka),
                f"{statistics.median(cost.memory for cost in costs) / 1e6:.0f}" if costs[0].memory else NONE,
                f"{statistics.median(cost.wall for cost in started):.1f}" if started[0].wall else NONE,
                f"{statistics.median(cost.consumer for cost in started):.1f}" if started[0].consumer else NONE,
            )
        )
    return table(head, rows)


def _rate(costs: Sequence[Cost], events: int) -> str:
    seconds = statistics.median(cost.wall for cost in costs)
    return f"{events / seconds:,.0f}" if seconds > 0 else NONE


def _micros(costs: Sequence[Cost], events: int, part: Callable[[Cost], float]) -> str:
    return f"{statistics.median(part(cost) for cost in costs) / events * 1e6:.1f}"


def _ratio(repetitions: Sequence[Repetition], name: Name, to: Name) -> str:
    found = ratio(repetitions, name, to)
    return NONE if found is None else f"{found:.2f}"


def ratio(repetitions: Sequence[Repetition], name: Name, to: Name) -> float | None:
    """Return the median over repetitions of what one path costs by what the other does; None without the other."""
    pairs = [(one[name].total, one[to].total) for one in repetitions if to in one and name in one]
    return statistics.median(cost / other for cost, other in pairs) if pairs and all(o for _, o in pairs) else None


def targets(repetitions: Sequence[Repetition]) -> str:
    """Say for each target whether it is met."""
    lines = []
    for peer, most in TARGETS:
        found = ratio(repetitions, "ours", peer)
        if found is not None:
            verdict = "met" if found <= most else "NOT met"
            lines.append(f"target: at most {most} of what {TITLES[peer]} costs; measured {found:.2f}: {verdict}")
    return "\n".join(lines)


def spread(repetitions: Sequence[Repetition], events: int) -> str:
    """Return the totals of each repetition, for a reader to see the noise."""
    lines = []
    for name in repetitions[0]:
        totals = ", ".join(f"{one[name].total / events * 1e6:.1f}" for one in repetitions)
        lines.append(f"{TITLES[name]}: {totals} µs")
    return "each repetition's total: " + "; ".join(lines)


def differences_table(one: Name, other: Name, found: Sequence[Difference]) -> str:
    """Return in which columns, how often and where for example two ledgers differ."""
    rows = [
        (column.column, str(column.rows), event_id, first, second)
        for column in found
        for event_id, first, second in column.examples
    ]
    return table(("column", "rows", "event", TITLES[one], TITLES[other]), rows)


def stages_table(found: Sequence[Stages]) -> str:
    """Return the stages of our path by number of policies."""
    head = ("policies", "decode µs", "judge µs", "row µs", "encode µs", "violated", "indeterminate", "compile s")
    rows = [
        (
            f"{one.policies:,}",
            *(f"{value:.2f}" for value in (one.decode, one.judge, one.row, one.encode)),
            *(f"{share:.1%}" for share in (one.violated, one.indeterminate)),
            f"{one.compile_seconds:.2f}",
        )
        for one in found
    ]
    return table(head, rows)


def publisher_table(cost: PublisherCost) -> str:
    """Return what the publisher costs."""
    head = ("publisher", "median", "worst")
    rows = (
        ("import, ms of processor time", f"{cost.import_median:.0f}", f"{cost.import_worst:.0f}"),
        ("emit, µs (worst: 99th percentile)", f"{cost.emit_median:.1f}", f"{cost.emit_p99:.1f}"),
    )
    return table(head, rows)


_HISTORY: Mapping[str, str] = {
    "scan": "reading the same columns",
    "against": "back-test of 50 policies against 50",
    "recorded": "back-test of 50 policies against the record",
    "affected": "report affected, 3 of 50 policies revised",
}
MOST_MEMORY = 1024**3
MOST_OF_A_BACKTEST = 1 / 3


def history_table(found: History) -> str:
    """Return what history costs; ratios are of processor time within one repetition."""
    head = (f"{found.events:,} events", "s", "CPU s", "to reading", "to back-test")
    rows = [
        (
            title,
            f"{found.spent(name).seconds:.2f}",
            f"{statistics.median(found.spent(name).cpu):.2f}",
            f"{found.ratio(name, 'scan'):.1f}",
            f"{found.ratio(name, 'against'):.2f}",
        )
        for name, title in _HISTORY.items()
    ]
    return table(head, rows)


def history_targets(found: History) -> str:
    """Say for each target of history whether it is met, and what loading a large bundle takes."""
    share = found.ratio("affected", "against")
    met = _met(share <= MOST_OF_A_BACKTEST)
    lines = (
        f"target: report affected takes at most a third of the back-test; measured {share:.2f}: {met}",
        f"target: at most 1 GiB of memory; measured {found.memory / 1e6:.0f} MB: {_met(found.memory <= MOST_MEMORY)}",
        f"loading a bundle of 1,000 policies: {found.load:.2f} s of processor time",
    )
    return "\n".join(lines)


def _met(met: bool) -> str:
    return "met" if met else "NOT met"
