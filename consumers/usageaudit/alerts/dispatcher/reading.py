"""What is new in the ledger: by the offsets of each partition, so that rows that are seen late are not missed.

A look at what was recorded of late is cheap and is taken often; a look that does not go by clocks is taken now and
then, and whenever the cheap one shows that offsets are missing between what was read and what it found.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from usageaudit.alerts.dispatcher.decisions import Subject
from usageaudit.policy.sql.columns import ledger_columns
from usageaudit.policy.sql.text import literal
from usageaudit.scheduler.progress import Progress
from usageaudit.scheduler.reading import OWN_STREAM, ends, next_slice
from usageaudit.verdicts import violation_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from usageaudit.alerts.config.settings import AlertsConfig
    from usageaudit.policy.language import Path
    from usageaudit.policy.model import Bundle
    from usageaudit.scheduler.progress import Place
    from usageaudit.stores.port import Store

RECENT_MS = 60_000
"""How far back the cheap look goes before the last row that was read."""
_READ = """SELECT toUnixTimestamp64Milli(seen), toUnixTimestamp64Milli(found), positions
FROM alert_progress ORDER BY epoch DESC, step DESC LIMIT 1"""
_SILENT = """SELECT count(), toUnixTimestamp64Milli(now64(3, 'UTC')) - toUnixTimestamp64Milli(max(written))
FROM alert_progress"""
_WRITE = """INSERT INTO alert_progress (epoch, step, seen, found, positions, written)
SELECT {epoch:UInt64}, {step:UInt64}, fromUnixTimestamp64Milli({seen:Int64}, 'UTC'),
    fromUnixTimestamp64Milli({found:Int64}, 'UTC'),
    CAST(arrayZip({streams:Array(String)}, {topics:Array(String)}, {partitions:Array(UInt32)}, {offsets:Array(UInt64)}),
        'Array(Tuple(stream String, topic String, partition UInt32, next UInt64))'), now64(3, 'UTC')"""


_UNTIL = 2**42
"""A time, in milliseconds, after all others."""
_HISTORY = """INSERT INTO alert_decisions (violation_id, recorded, outcome, kind, policy_id, policy_version, severity,
    event_time, decided_at)
SELECT finding_id, created, 'unchanged', kind, policy_id, policy_version, severity, window_end, now64(3, 'UTC')"""
_BEFORE = "FROM findings_log WHERE created <= fromUnixTimestamp64Milli({until:Int64}, 'UTC')"


@dataclass(frozen=True, slots=True)
class Reached:
    """How far the ledger and the findings were read; times in milliseconds since 1970, as the table has them."""

    seen: int = 0
    found: int = 0
    positions: Mapping[Place, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class News:
    """New rows of the ledger: their condition, and how far they reach."""

    where: str
    reached: Reached


def read_reached(store: Store) -> Reached | None:
    """Return how far was read, None where nobody ever did."""
    rows = store.execute(_READ).rows
    if not rows:
        return None
    seen, found, positions = rows[0]
    places = {(str(one[0]), str(one[1]), int(one[2])): int(one[3]) for one in positions}
    return Reached(int(seen), int(found), places)


def silent_ms(store: Store) -> int:
    """Return for how long no dispatcher is known to have made progress, in milliseconds; 0 where none ever did."""
    ((rows, silent),) = store.execute(_SILENT).rows
    return max(int(silent), 0) if rows else 0


def write_reached(store: Store, reached: Reached, epoch: int, step: int) -> None:
    """Keep how far was read; what a dispatcher of a lower epoch writes later does not count."""
    places = sorted(reached.positions)
    store.execute(
        _WRITE,
        {
            "epoch": epoch,
            "step": step,
            "seen": reached.seen,
            "found": reached.found,
            "streams": [stream for stream, _, _ in places],
            "topics": [topic for _, topic, _ in places],
            "partitions": [number for _, _, number in places],
            "offsets": [reached.positions[place] for place in places],
        },
    )


def begin(store: Store, since: int | None) -> Reached:
    """Return where a dispatcher begins that has no record: now, or with what was recorded after `since` (ms)."""
    all_ = ends(store)
    until = _UNTIL if since is None else since
    ((found,),) = store.execute(f"SELECT toUnixTimestamp64Milli(max(created)) {_BEFORE}", {"until": until}).rows
    # So that a finding that is appended later is told from these even where the clock of the store goes back.
    store.execute(f"{_HISTORY} {_BEFORE}", {"until": until})
    if since is None:
        return Reached(all_.seen, int(found), all_.positions)
    firsts = store.execute(
        "SELECT stream, topic, partition, min(`offset`) FROM ledger "
        f"WHERE ingest_time > {_moment(since)} GROUP BY stream, topic, partition"
    ).rows
    places = {(str(stream), str(topic), int(number)): int(first) for stream, topic, number, first in firsts}
    return Reached(min(since, all_.seen), int(found), {**all_.positions, **places})


class Reader:
    """Reads what is new, for the policies of a bundle."""

    def __init__(self, store: Store, bundle: Bundle, config: AlertsConfig, most: int) -> None:
        self._store, self._most = store, most
        self.behind = 0
        """How many records the last cheap look left to the next steps."""
        self._names, self._values = _gathered_by(bundle, config)
        self._registry = bundle.registry

    def recent(self, reached: Reached) -> News | None:
        """Return what was recorded of late, None where only a thorough look can tell what is new."""
        places = _places(self._store)
        if not places:
            return News("0", reached)
        after = f"ingest_time > {_moment(max(reached.seen - RECENT_MS, 0))}"
        beyond = " OR ".join(f"({_is(place)} AND `offset` >= {reached.positions.get(place, 0)})" for place in places)
        rows = self._store.execute(
            "SELECT stream, topic, partition, min(`offset`), max(`offset`), "
            # A consumer's clock that is ahead must not hide what is recorded when it was set right.
            "toUnixTimestamp64Milli(least(max(ingest_time), now64(3, 'UTC'))) "
            f"FROM ledger WHERE {after} AND ({beyond}) GROUP BY stream, topic, partition"
        ).rows
        positions, seen, behind = dict(reached.positions), reached.seen, 0
        most = max(self._most // max(len(rows), 1), 1)
        for stream, topic, number, first, last, latest in rows:
            place = (str(stream), str(topic), int(number))
            start = positions.get(place, 0)
            if int(first) != start:
                return None
            positions[place] = min(int(last) + 1, start + most)
            behind += int(last) + 1 - positions[place]
            seen = max(seen, int(latest))
        self.behind = behind
        return News(f"{after} AND {_between(reached, positions)}", replace(reached, positions=positions, seen=seen))

    def thorough(self, reached: Reached) -> News:
        """Return what is new, whatever the clocks say."""
        most = max(self._most // max(len(reached.positions), 1), 1)
        piece = next_slice(self._store, Progress(0, 0, reached.positions, reached.seen), 0, most)
        after = replace(reached, positions=dict(piece.positions), seen=max(reached.seen, piece.seen))
        return News(_between(reached, piece.positions), after)

    def violations(self, news: News) -> tuple[Sequence[Subject], int]:
        """Return the violations among some rows, in the order of their recording, and the store's time (ms)."""
        rows = self._store.execute(
            f"""SELECT toUnixTimestamp64Milli(now64(3, 'UTC')), policy_id, policy_version, severity,
    toUnixTimestamp64Milli(ingest_time), toUnixTimestamp64Micro(event_time), event_source, event_id,
    application_name, ifNull(application_team, ''), ifNull(actor_organization, ''), model_name, {self._values}
FROM ledger ARRAY JOIN violated AS policy_id, violated_version AS policy_version, violated_severity AS severity,
    violated_stage AS judged_stage
WHERE status = 'accepted' AND notEmpty(violated) AND judged_stage = 'enforce' AND ({news.where})
ORDER BY ingest_time, stream, topic, partition, `offset`"""
        ).rows
        found = {one.key: one for one in map(self._subject, rows)}
        return list(found.values()), int(rows[0][0]) if rows else 0

    def _subject(self, row: Sequence[object]) -> Subject:
        _, policy, version, severity, recorded, time, source, event_id, app, team, organization, model, values = row
        names = self._names.get(str(policy), self._names[""])
        return Subject(
            violation_id=violation_id(str(source), str(event_id), str(policy), int(str(version))),
            recorded_ms=int(str(recorded)),
            kind="event",
            policy_id=str(policy),
            policy_version=int(str(version)),
            severity=severity,  # type: ignore[arg-type]
            time_us=int(str(time)),
            event_source=str(source),
            event_id=str(event_id),
            application=str(app),
            team=str(team),
            organization=str(organization),
            model=str(model),
            values=dict(zip(names, values, strict=True)),  # type: ignore[call-overload]
        )


def _gathered_by(bundle: Bundle, config: AlertsConfig) -> tuple[Mapping[str, Sequence[str]], str]:
    """Return the names of what each policy's violations are gathered by, and the SQL of the values; "" is any other."""
    stored = ledger_columns(bundle.registry)
    fields = {one.id: one.alert.dedup_by for one in bundle.policies if one.alert is not None}
    by_fields: dict[tuple[Path, ...], list[str]] = {}
    for policy, paths in fields.items():
        by_fields.setdefault(paths, []).append(policy)

    def values(paths: Sequence[Path]) -> str:
        texts = ", ".join(f"ifNull(toString({stored[path].value}), '')" for path in paths)
        return f"CAST([{texts}], 'Array(String)')"

    branches = [
        f"policy_id IN ({', '.join(map(literal, policies))}), {values(paths)}" for paths, policies in by_fields.items()
    ]
    rest = values(config.gathering.dedup_by)
    names = {policy: tuple(map(".".join, paths)) for policy, paths in fields.items()}
    sql = f"multiIf({', '.join([*branches, rest])})" if branches else rest
    return {**names, "": tuple(map(".".join, config.gathering.dedup_by))}, sql


def _places(store: Store) -> Sequence[Place]:
    rows = store.execute("SELECT DISTINCT stream, topic, partition FROM fence").rows
    return [(str(stream), str(topic), int(number)) for stream, topic, number in rows if stream != OWN_STREAM]


def _between(before: Reached, positions: Mapping[Place, int]) -> str:
    conditions = [
        f"({_is(place)} AND `offset` >= {before.positions.get(place, 0)} AND `offset` < {end})"
        for place, end in positions.items()
        if end > before.positions.get(place, 0)
    ]
    return f"({' OR '.join(conditions) or '0'})"


def _is(place: Place) -> str:
    stream, topic, number = place
    return f"stream = {literal(stream)} AND topic = {literal(topic)} AND partition = {number}"


def _moment(milliseconds: int) -> str:
    return f"fromUnixTimestamp64Milli({milliseconds}, 'UTC')"
