"""kill -9 at every point of the one process of the embedded pair, again and again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.acceptance.conftest import Pair
from tests.faults.campaign import CONSUMER, LONG, STRIKE_SECONDS
from tests.faults.child import RECOVERING, WORKING
from tests.faults.nursery import SIGKILLED, Process
from tests.faults.report import Line, append
from tests.strategies import MINIMAL, envelope

if TYPE_CHECKING:
    from pathlib import Path

POINTS = [point for point in (*RECOVERING, *WORKING) if point != "before the answer to an insert"]
"""An embedded store answers in the call itself."""
EVENTS, TRIES = (20_000, 10) if LONG else (4_000, 1)
BATCH = ("--records", "50")
COUNTS = (
    "SELECT count() AS rows, uniqExact(offset) AS offsets, uniqExact(event_id) AS events FROM stream_records "
    "WHERE status = 'accepted'"
)


def test_the_embedded_pair_survives_kills(tmp_path: Path) -> None:
    """Wherever the one process of the embedded pair is killed, running it again makes the ledger exact."""
    pair = Pair("embedded:./data", "embedded:./data", tmp_path)
    lines = "".join(json.dumps(envelope(MINIMAL, id=f"e-{number}")) + "\n" for number in range(EVENTS))
    pair.run("publish", "-", text=lines)
    place = f"embedded:{tmp_path / 'data'}"
    for number, point in enumerate(POINTS * TRIES):
        nth = 1 if point in RECOVERING else 1 + number % 3
        victim = Process(tmp_path, CONSUMER, place, place, "--at", point, "--nth", str(nth), *BATCH)
        try:
            assert victim.wait(STRIKE_SECONDS) == SIGKILLED, victim.said()
        finally:
            victim.kill()
    pair.consume()
    [row] = pair.query(COUNTS)
    lost, doubled = EVENTS - row["events"], row["rows"] - row["events"]
    append(Line("embedded pair", "kill -9", "every point in turn", len(POINTS) * TRIES, EVENTS, lost, doubled))
    assert row == {"rows": EVENTS, "offsets": EVENTS, "events": EVENTS}
