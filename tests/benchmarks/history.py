"""What policies cost over the record, on the embedded store: a back-test with its report, and the report on a change.

The events of the other parts, judged and recorded as the consumer does it, then copied with other times and ids until
there are enough. Loading and measuring are processes of their own, so that the memory is that of the reports alone.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.benchmarks.events import DAY, usage_events
from tests.benchmarks.policies import policies, write_bundle
from usageaudit.cloudevents import STRUCTURED_HEADERS
from usageaudit.events.times import format_time, parse_time
from usageaudit.history import Period, affected, backtest
from usageaudit.ledger.columns import COLUMNS
from usageaudit.pipeline.judging import judge_records
from usageaudit.policy import compile_judge, load_bundle
from usageaudit.policy.model import JUDGED
from usageaudit.policy.sql import ledger_columns
from usageaudit.policy.sql.judging import judgements
from usageaudit.stores.address import open_store
from usageaudit.stores.ledger import Ledger
from usageaudit.stores.migrate import migrate
from usageaudit.streams.port import Partition, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from usageaudit.policy import Bundle
    from usageaudit.stores.port import Store

EVENTS = 1_000_000
REPEAT = 3
LARGE = 1_000
"""Policies of the bundle that is loaded."""
_DRAWN = 100_000
_BATCH = 50_000
_DAYS_APART = 36
"""Days between a copy and the next, so that ten copies are spread over a year."""
REVISED = ("camera-1", "cost-1", "night-1")
CHANGE = format_time(parse_time(DAY) - 100 * 86_400_000_000)
_PARTITION = Partition("bench", "usage-events", 0)


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds of wall and of processor time, one a repetition."""

    wall: list[float]
    cpu: list[float]

    @property
    def seconds(self) -> float:
        """The median of the wall times."""
        return statistics.median(self.wall)


@dataclass(frozen=True, slots=True)
class History:
    """What each thing took, on how many events, and the most memory of the process, in bytes."""

    events: int
    scan: Spent
    against: Spent
    recorded: Spent
    affected: Spent
    load: float
    memory: int

    def ratio(self, what: str, to: str) -> float:
        """Return the median of what one thing took by what another did, in processor time of one repetition."""
        one, other = self.spent(what), self.spent(to)
        return statistics.median(a / b for a, b in zip(one.cpu, other.cpu, strict=True) if b)

    def spent(self, what: str) -> Spent:
        """Return what one thing took, by its name."""
        found: Spent = getattr(self, what)
        return found


def measure(folder: Path, events: int = EVENTS, repeat: int = REPEAT) -> History:
    """Fill a store below a folder and measure, each in a process of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    _child("load", folder, events, repeat)
    found: dict[str, Any] = json.loads(_child("measure", folder, events, repeat))
    return History(
        events=found["events"],
        scan=Spent(**found["scan"]),
        against=Spent(**found["against"]),
        recorded=Spent(**found["recorded"]),
        affected=Spent(**found["affected"]),
        load=found["load"],
        memory=found["memory"],
    )


def _child(step: str, folder: Path, events: int, repeat: int) -> bytes:
    command = [sys.executable, "-m", "tests.benchmarks.history", step, str(folder), str(events), str(repeat)]
    return subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=Path(__file__).parents[2]).stdout


def bundles(folder: Path) -> tuple[Bundle, Bundle]:
    """Return the fifty policies, and the same with a second revision of three of them; written where they are not."""
    old, new = folder / "bundle", folder / "revised"
    if not old.exists():
        write_bundle(old, policies())
        write_bundle(new, policies())
        for clause in REVISED:
            file = new / "policies" / f"{clause}.yaml"
            file.write_text(_revised(file.read_text(encoding="utf-8")), encoding="utf-8")
    return load_bundle([old]), load_bundle([new])


def _revised(text: str) -> str:
    """Return a policy that has said from the time of the change on that retail is not meant."""
    [when] = re.findall(r'(?m)^    when: "(.*)"$', text)
    second = f'  - version: 2\n    from: {CHANGE}\n    when: "actor.sector != \\"retail\\" && ({when})"\n'
    return text.replace("  - version: 1\n", f"  - version: 1\n    to: {CHANGE}\n").replace(
        "message:", second + "message:"
    )


def load(folder: Path, events: int) -> None:
    """Record so many events, judged by the fifty policies."""
    bundle, _ = bundles(folder)
    judge = compile_judge(bundle)
    store = open_store(f"embedded:{folder / 'store'}")
    migrate(store)
    ledger = Ledger(store)
    ledger.keep_bundle(bundle, "bench")
    epoch = ledger.fence(_PARTITION, "bench")
    drawn = min(events, _DRAWN)
    records = [
        Record(offset, parse_time(DAY) // 1000 + offset, event.value, STRUCTURED_HEADERS)
        for offset, event in enumerate(usage_events(drawn))
    ]
    for number, start in enumerate(range(0, drawn, _BATCH)):
        judged = judge_records(records[start : start + _BATCH], judge)
        ledger.record(judged.block, _PARTITION, epoch, number, bundle=bundle.hash)
    for copy in range(1, -(-events // drawn)):
        store.execute(_copy(copy, min(drawn, events - copy * drawn), drawn))
    store.close()


def _copy(number: int, rows: int, drawn: int) -> str:
    changed = {
        "event_time": f"event_time - toIntervalDay({number * _DAYS_APART})",
        "record_time": f"record_time - toIntervalDay({number * _DAYS_APART})",
        "event_id": f"concat(event_id, '-{number}')",
        "offset": f"`offset` + {number * drawn}",
    }
    names = [column.name for column in COLUMNS]
    values = ", ".join(changed.get(name, f"`{name}`") for name in names)
    listed = ", ".join(f"`{name}`" for name in names)
    return f"INSERT INTO ledger ({listed}) SELECT {values} FROM ledger WHERE `offset` < {rows}"


@dataclass(slots=True)
class _Clock:
    wall: list[float]
    cpu: list[float]

    @contextmanager
    def running(self) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)


def run(folder: Path, repeat: int) -> dict[str, Any]:
    """Measure on a filled store: everything in turn, so many times over."""
    old, new = bundles(folder)
    store = open_store(f"embedded:{folder / 'store'}")
    scan = scan_sql(old)
    steps: dict[str, Callable[[], object]] = {
        "scan": lambda: store.execute(scan),
        "against": lambda: backtest(store, new, old, Period(), progress=_nobody),
        "recorded": lambda: backtest(store, new, None, Period(), progress=_nobody),
        "affected": lambda: affected(store, new, parse_time(CHANGE), Period(), progress=_nobody),
    }
    clocks = {name: _Clock([], []) for name in steps}
    for step in steps.values():
        step()  # the first time reads from the disk
    for _ in range(repeat):
        for name, step in steps.items():
            with clocks[name].running():
                step()
    found = {name: asdict(clock) for name, clock in clocks.items()}
    return {**found, "events": _events(store), "memory": _peak_memory(), "load": _loading(folder)}


def scan_sql(bundle: Bundle) -> str:
    """Return the statement that reads the columns that the policies read, and does nothing with them."""
    texts = " ".join(one.sql for one in judgements(bundle, ledger_columns(bundle.registry), JUDGED))
    words = set(re.findall(r"\w+", re.sub(r"'(?:[^'\\]|\\.)*'", "", texts)))
    read = [column.name for column in COLUMNS if column.name in words]
    return f"SELECT sum(ignore({', '.join(read)})) FROM ledger WHERE status = 'accepted'"


def _events(store: Store) -> int:
    return int(store.execute("SELECT count() FROM ledger WHERE status = 'accepted'").rows[0][0])


def _loading(folder: Path) -> float:
    large = folder / "large"
    if not large.exists():
        write_bundle(large, policies(LARGE))
    began = time.process_time()
    load_bundle([large])
    return time.process_time() - began


def _peak_memory() -> int:
    [most] = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    return int(most) * 1024


def _nobody(_done: int, _total: int) -> None:
    return


def main(arguments: Sequence[str]) -> None:
    """Do one of the two steps: `load` or `measure`, on a folder, with a number of events and of repetitions."""
    step, folder, events, repeat = arguments
    if step == "load":
        load(Path(folder), int(events))
    else:
        print(json.dumps(run(Path(folder), int(repeat))))


if __name__ == "__main__":
    main(sys.argv[1:])
