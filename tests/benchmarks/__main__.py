"""Measure and print: `python -m tests.benchmarks --help`. Ends with 1 where the ledgers differ, whatever it cost."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks import history, publisher, report, stages
from tests.benchmarks.compare import differences
from tests.benchmarks.paths import NAMES, Bench, bench
from tests.benchmarks.policies import policies, write_bundle
from tests.servers.clickhouse import ClickHouse
from tests.servers.kafka import Kafka
from tests.servers.packages import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.benchmarks.paths import Name, Topic
    from tests.benchmarks.report import Repetition

PARTS = ("paths", "stages", "publisher", "history")
FEW = 8
"""Events of the topic on which the cost of starting is measured."""


@dataclass(slots=True)
class Results:
    """What the paths cost in each repetition, net of starting, what starting cost, and how many columns differed."""

    net: list[Repetition] = field(default_factory=list)
    starts: list[Repetition] = field(default_factory=list)
    different: int = 0


def main(arguments: Sequence[str]) -> int:
    """Run the parts that are asked for."""
    asked = _parser().parse_args(arguments)
    print(f"Python {platform.python_version()} on {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}\n")
    different = 0
    with tempfile.TemporaryDirectory(prefix="usageaudit-bench-") as name:
        folder = Path(name)
        if "publisher" in asked.part:
            print(report.publisher_table(publisher.measure(folder / "stream")), flush=True)
        if "stages" in asked.part:
            print("\n" + report.stages_table(stages.measure()), flush=True)
        if "history" in asked.part:
            found = history.measure(folder / "history", asked.history_events, asked.repeat)
            print("\n" + report.history_table(found) + "\n" + report.history_targets(found), flush=True)
        if "paths" in asked.part:
            different = _paths(folder, asked.events, asked.repeat, asked.minutes * 60, asked.path)
    return 1 if different else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "part", nargs="*", default=list(PARTS), metavar="PART", help="paths, stages, publisher, history"
    )
    parser.add_argument("--events", type=int, default=200_000, help="events on the topic (%(default)s)")
    parser.add_argument(
        "--history-events", type=int, default=history.EVENTS, help="events in the record of history (%(default)s)"
    )
    parser.add_argument("--repeat", type=int, default=3, help="repetitions, the paths in turn (%(default)s)")
    parser.add_argument(
        "--minutes", type=float, default=10, help="begin no repetition that may end later (%(default)s)"
    )
    parser.add_argument("--path", action="append", choices=NAMES, help="only this path; may be repeated")
    return parser


def _paths(folder: Path, events: int, repeat: int, seconds: float, only: Sequence[Name] | None) -> int:
    began = time.monotonic()
    bundle = write_bundle(folder / "bundle", policies())
    names = tuple(only or NAMES)
    results = Results()
    longest = 0.0
    with (
        Kafka(folder / "kafka") as kafka,
        ClickHouse(folder / "clickhouse", "26.7") as clickhouse,
        bench(kafka, clickhouse, bundle) as running,
    ):
        few, topic = running.publish(FEW), running.publish(events)
        _starting(running, names, few)  # the servers' own first time: internal topics, caches
        while not results.net or (len(results.net) < repeat and time.monotonic() - began + longest < seconds):
            before = time.monotonic()
            _repeat(running, names, few, topic, results)
            longest = max(longest, time.monotonic() - before)
    _print(results, events)
    return results.different


def _starting(running: Bench, names: Sequence[Name], few: Topic) -> Repetition:
    """Measure every path on a few events: what it costs before the first one, and after the last."""
    found: Repetition = {}
    for name in names:
        cost, database = running.run(name, few)
        running.drop(database)
        # The engine's time is taken from when it has joined its group, so there is none to subtract.
        found[name] = replace(cost, wall=0.0) if name == "kafka_engine" else cost
    return found


def _repeat(running: Bench, names: Sequence[Name], few: Topic, topic: Topic, results: Results) -> None:
    """Run every path once, one after the other, and compare what they wrote."""
    starts = _starting(running, names, few)
    net: Repetition = {}
    written: dict[Name, str] = {}
    for name in names:
        cost, written[name] = running.run(name, topic)
        net[name] = cost.net_of(starts[name])
    first = names[0]
    for other in names[1:]:
        if found := differences(running.client, written[first], written[other]):
            results.different += len(found)
            print(f"\nthe ledgers differ:\n{report.differences_table(first, other, found)}", flush=True)
    for database in written.values():
        running.drop(database)
    results.net.append(net)
    results.starts.append(starts)


def _print(results: Results, events: int) -> None:
    print(
        f"\n{events:,} events, {len(policies())} policies, median of {len(results.net)} repetitions, net of starting:\n"
    )
    print(report.paths_table(results.net, results.starts, events))
    print(report.spread(results.net, events))
    print(report.targets(results.net))
    if len(results.net[0]) > 1:
        said = "hold the same" if not results.different else f"differ in {results.different} columns, see above"
        print(f"the ledgers {said}, in each repetition")


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except UnavailableError as error:
        sys.exit(f"can't run here: {error}")
