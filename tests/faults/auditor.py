"""An independent audit: what producers know to be acknowledged against what the ledger holds.

    python -I -S auditor.py JOURNALS http://127.0.0.1:8123 DATABASE [--user NAME]

Nothing of usageaudit is imported, and nothing but the standard library: with `-I -S` there is nothing else to import.
The ledger's rows are read over the store's HTTP interface and counted here; the store is asked for rows, not for sums,
except where its sums are what is audited.

JOURNALS is a folder of files `*.journal` that producers append to, one line for one record, written after the
acknowledgement of the stream or after `emit(..., durable=True)` returned:

    event<TAB>SOURCE<TAB>ID<TAB>SEQUENCE      an event; the same one may be written again for each copy
    broken<TAB>SOURCE<TAB>ID<TAB>SEQUENCE     a record that is no event, so the ledger has to hold it as rejected

A last line that a killed producer did not finish is ignored: what it was about to say is not known to be acknowledged.

Prints one JSON object and exits with 0 where the ledger is exact, 1 where it is not, 2 where it could not be asked.
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter, defaultdict
from pathlib import Path

SHOWN = 5
SECONDS = 120
ROWS = (
    "SELECT status, event_source, event_id, stream, topic, partition, `offset`, toUnixTimestamp(toStartOfHour("
    "event_time)), application_name, ifNull(usage_input_tokens, 0), bundle, epoch, batch FROM ledger "
    "SETTINGS optimize_use_projections = 0"
)
PROJECTED = (
    "SELECT status, toUnixTimestamp(toStartOfHour(event_time) AS hour), application_name, count(), "
    "sum(usage_input_tokens) FROM ledger GROUP BY status, hour, application_name "
    "SETTINGS optimize_use_projections = 1, force_optimize_projection = 1"
)
GAPS = "SELECT DISTINCT group_key FROM findings_log WHERE kind = 'offset_gap'"
BUNDLES = "SELECT DISTINCT hash FROM bundles_log"


class Store:
    """A database of the store, asked over HTTP."""

    def __init__(self, url: str, database: str, user: str) -> None:
        self._url = f"{url}/?{urllib.parse.urlencode({'database': database, 'user': user})}"

    def rows(self, sql: str) -> list[list[object]]:
        """Return the rows of a query."""
        # JSON keeps tabs and line ends of a value apart from those between values.
        request = urllib.request.Request(self._url, data=f"{sql} FORMAT JSONCompactEachRow".encode())
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return [json.loads(line) for line in answer]


class Journals:
    """What producers know: acknowledged events by source and id, and records that are none."""

    def __init__(self, folder: Path) -> None:
        self.events: Counter[tuple[str, str]] = Counter()
        self.broken = 0
        for path in sorted(folder.glob("*.journal")):
            for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
                if line.endswith("\n"):
                    self._take(*line[:-1].split("\t"))

    def _take(self, kind: str, source: str, event_id: str, _sequence: str) -> None:
        if kind == "event":
            self.events[source, event_id] += 1
        elif kind == "broken":
            self.broken += 1
        else:
            raise ValueError(f"a journal has a line of unknown kind {kind!r}")


class Ledger:
    """The rows of the ledger, counted."""

    def __init__(self, store: Store) -> None:
        self.statuses: Counter[str] = Counter()
        self.accepted: Counter[tuple[str, str]] = Counter()
        self.copies: Counter[tuple[str, str]] = Counter()
        self.offsets: Counter[tuple[str, str, int, int]] = Counter()
        self.sums: dict[tuple[str, int, str], list[int]] = defaultdict(lambda: [0, 0])
        self.bundles: dict[tuple[str, str, int, int, int], set[str]] = defaultdict(set)
        for row in store.rows(ROWS):
            self._take(row)

    def _take(self, row: list[object]) -> None:
        status, source, event_id, stream, topic, application, bundle = (str(row[i]) for i in (0, 1, 2, 3, 4, 8, 10))
        partition, offset, hour, tokens, epoch, batch = (int(str(row[i])) for i in (5, 6, 7, 9, 11, 12))
        self.statuses[status] += 1
        self.offsets[stream, topic, partition, offset] += 1
        if status == "accepted":
            self.accepted[source, event_id] += 1
        if status == "duplicate":
            self.copies[source, event_id] += 1
        total = self.sums[status, hour, application]
        total[0] += 1
        total[1] += tokens
        self.bundles[stream, topic, partition, epoch, batch].add(bundle)

    def holes(self) -> set[tuple[str, str, int, int]]:
        """Return the offsets between 0 and the last one of each partition that no row has."""
        last: dict[tuple[str, str, int], int] = {}
        for stream, topic, partition, offset in self.offsets:
            place = (stream, topic, partition)
            last[place] = max(last.get(place, 0), offset)
        return {(*place, at) for place, end in last.items() for at in range(end) if (*place, at) not in self.offsets}


def reported_gaps(store: Store) -> set[tuple[str, str, int, int]]:
    """Return the offsets that findings say are gone from the stream."""
    gone: set[tuple[str, str, int, int]] = set()
    for (key,) in store.rows(GAPS):
        stream, topic, partition, first, end = str(key).rsplit("/", 4)
        gone.update((stream, topic, int(partition), at) for at in range(int(first), int(end)))
    return gone


def differing_aggregates(store: Store, ledger: Ledger) -> int:
    """Return how many groups the projection counts otherwise than the rows, 0 for an empty ledger."""
    if not ledger.sums:
        return 0
    projected = {
        (str(status), int(str(hour)), str(application)): [int(str(count)), int(str(tokens or 0))]
        for status, hour, application, count, tokens in store.rows(PROJECTED)
    }
    groups = projected.keys() | ledger.sums.keys()
    return sum(projected.get(group) != ledger.sums.get(group) for group in groups)


def unkept_bundles(store: Store, ledger: Ledger) -> int:
    """Return how many batches were judged by more than one bundle, or by one that the store does not have."""
    kept = {str(name) for (name,) in store.rows(BUNDLES)}
    return sum(len(bundles) != 1 or not bundles <= kept for bundles in ledger.bundles.values())


def audit(journals: Journals, store: Store) -> dict[str, object]:
    """Compare, and return what was found."""
    ledger = Ledger(store)
    lost = [event for event in journals.events if event not in ledger.accepted]
    doubled = [event for event, times in ledger.accepted.items() if times > 1]
    holes, gaps = ledger.holes(), reported_gaps(store)
    return {
        "acknowledged": len(journals.events),
        "accepted": ledger.statuses["accepted"],
        "duplicates": ledger.statuses["duplicate"],
        "rejected": ledger.statuses["rejected"],
        "unacknowledged": sum(event not in journals.events for event in ledger.accepted),
        "lost": len(lost),
        "doubled": sum(ledger.accepted[event] - 1 for event in doubled),
        "offsets_doubled": sum(times - 1 for times in ledger.offsets.values()),
        "copies_lost": sum(
            max(times - ledger.accepted[event] - ledger.copies[event], 0) for event, times in journals.events.items()
        )
        - len(lost),
        "broken_lost": max(journals.broken - ledger.statuses["rejected"], 0),
        "other_statuses": sum(ledger.statuses.values())
        - sum(ledger.statuses[status] for status in ("accepted", "duplicate", "rejected")),
        "gap": len(gaps),
        "unreported_holes": len(holes - gaps),
        "gaps_recorded_all_the_same": sum(at in ledger.offsets for at in gaps),
        "aggregates_differ": differing_aggregates(store, ledger),
        "batches_of_unkept_bundles": unkept_bundles(store, ledger),
        "examples": {"lost": sorted(lost)[:SHOWN], "doubled": sorted(doubled)[:SHOWN], "holes": sorted(holes)[:SHOWN]},
    }


MUST_BE_ZERO = (
    "lost",
    "doubled",
    "offsets_doubled",
    "copies_lost",
    "broken_lost",
    "other_statuses",
    "unreported_holes",
    "gaps_recorded_all_the_same",
    "aggregates_differ",
    "batches_of_unkept_bundles",
)


def main() -> int:
    """Audit as the command line says, and return the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("journals", type=Path)
    parser.add_argument("url")
    parser.add_argument("database")
    parser.add_argument("--user", default="default")
    given = parser.parse_args()
    try:
        found = audit(Journals(given.journals), Store(given.url, given.database, given.user))
    except urllib.error.HTTPError as error:
        print(f"the store refused: {error.read().decode(errors='replace')[:2000]}", file=sys.stderr)
        return 2
    except (OSError, ValueError) as error:
        print(f"the audit could not be made: {error}", file=sys.stderr)
        return 2
    found["exact"] = all(found[name] == 0 for name in MUST_BE_ZERO)
    print(json.dumps(found))
    return 0 if found["exact"] else 1


if __name__ == "__main__":
    sys.exit(main())
