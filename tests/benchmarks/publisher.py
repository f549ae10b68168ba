"""What the publisher costs the service that uses it: the time to import it, and the time of a call of `emit`."""

from __future__ import annotations

import gc
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from tests.benchmarks.events import usage_events
from usageaudit.publisher import Publisher

if TYPE_CHECKING:
    from pathlib import Path

INTERPRETERS = 20
EVENTS = 5_000
_IMPORT = "import time; t = time.process_time(); import usageaudit.publisher; print(time.process_time() - t)"


@dataclass(frozen=True, slots=True)
class PublisherCost:
    """Processor time to import, in milliseconds; wall time of a call of `emit`, in microseconds."""

    import_median: float
    import_worst: float
    emit_median: float
    emit_p99: float


def measure(folder: Path, interpreters: int = INTERPRETERS, events: int = EVENTS) -> PublisherCost:
    """Measure in fresh interpreters, and on an embedded stream in a folder."""
    imports = [_import_seconds() * 1e3 for _ in range(interpreters)]
    emits = sorted(seconds * 1e6 for seconds in _emit_seconds(folder, events))
    return PublisherCost(
        statistics.median(imports), max(imports), statistics.median(emits), emits[int(len(emits) * 0.99)]
    )


def _import_seconds() -> float:
    done = subprocess.run([sys.executable, "-c", _IMPORT], capture_output=True, text=True, check=True, timeout=60)
    return float(done.stdout)


def _emit_seconds(folder: Path, events: int) -> list[float]:
    data = [orjson.loads(event.value)["data"] for event in usage_events(events)]
    seconds = []
    with Publisher(f"embedded:{folder}", source="//services/benchmark") as publisher:
        gc.collect()
        for number, one in enumerate(data):
            one.pop("publisher")
            began = time.perf_counter()
            publisher.emit(one)
            seconds.append(time.perf_counter() - began)
            if number % 500 == 499:
                publisher.flush()
    return seconds
