"""How far a rule has read: the offsets of each partition, and the time up to which its windows are closed.

What a rule has seen are the events below its positions whose time is not after its watermark. So what is new to it when
both have moved is known exactly, and a step that was broken off is simply made again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from usageaudit.scheduler.lease import Lease
    from usageaudit.scheduler.rules import Rule
    from usageaudit.stores.port import Store

Place = tuple[str, str, int]
"""A partition: stream, topic and number."""

_READ = """SELECT rule, toUnixTimestamp64Micro(argMax(watermark, (epoch, step))),
    toUnixTimestamp64Micro(argMax(since, (epoch, step))), max((epoch, step)).2, argMax(positions, (epoch, step)),
    toUnixTimestamp64Milli(argMax(seen, (epoch, step)))
FROM window_progress WHERE rule IN {rules:Array(String)} GROUP BY rule"""
_FORMER = """SELECT rule FROM window_progress WHERE policy_id = {policy_id:String} AND policy_version = {version:UInt32}
ORDER BY (epoch, written, step) DESC LIMIT 1"""
_WRITE = """INSERT INTO window_progress
    (rule, policy_id, policy_version, epoch, step, since, watermark, seen, positions, written)
SELECT {rule:String}, {policy_id:String}, {version:UInt32}, {written_epoch:UInt64}, {step:UInt64},
    fromUnixTimestamp64Micro({since:Int64}, 'UTC'), fromUnixTimestamp64Micro({watermark:Int64}, 'UTC'),
    fromUnixTimestamp64Milli({seen:Int64}, 'UTC'),
    CAST(arrayZip({streams:Array(String)}, {topics:Array(String)}, {partitions:Array(UInt32)}, {offsets:Array(UInt64)}),
        'Array(Tuple(stream String, topic String, partition UInt32, next UInt64))'), now64(3, 'UTC')
WHERE NOT ifNull(({taken_over}), 1)"""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a rule is: the next offset of each partition, and times in microseconds since 1970.

    Windows that crossed at `watermark` or before were looked at; those before `since` are history, which a back-test
    tells of. `seen` is when the last row was recorded, in milliseconds; `step` counts the steps that led here. `peak`
    is the latest time below the positions, as far as this process read it: the watermark may be waiting for others.
    """

    since: int
    watermark: int
    positions: Mapping[Place, int] = field(default_factory=dict)
    seen: int = 0
    step: int = 0
    peak: int = 0


def read_progress(store: Store, rules: Collection[str]) -> dict[str, Progress]:
    """Return how far rules are, by their ids; those that never made a step are left out."""
    found = store.execute(_READ, {"rules": list(rules)}).rows if rules else ()
    return {
        str(rule): Progress(
            since=int(since),
            watermark=int(watermark),
            positions={(str(one[0]), str(one[1]), int(one[2])): int(one[3]) for one in positions},
            seen=int(seen),
            step=int(step),
        )
        for rule, watermark, since, step, positions, seen in found
    }


def former(store: Store, rule: Rule) -> Progress | None:
    """Return how far this version of the policy is under another id, None where it never made a step.

    It has another one where what the policy reads of lists or of the registry has changed.
    """
    rows = store.execute(_FORMER, {"policy_id": rule.policy.id, "version": rule.revision.version}).rows
    return read_progress(store, [str(rows[0][0])])[str(rows[0][0])] if rows else None


def write_progress(store: Store, rule: Rule, progress: Progress, lease: Lease) -> None:
    """Keep how far a rule is, unless the lease was taken over: then the findings before it may have been refused.

    What a scheduler of a lower epoch writes does not count for long, but its follower may die before it writes.
    """
    places = sorted(progress.positions)
    taken_over, parameters = lease.taken_over()
    store.execute(
        _WRITE.replace("{taken_over}", taken_over),
        {
            **parameters,
            "rule": rule.id,
            "policy_id": rule.policy.id,
            "version": rule.revision.version,
            "written_epoch": lease.epoch,
            "step": progress.step,
            "since": progress.since,
            "watermark": progress.watermark,
            "seen": progress.seen,
            "streams": [stream for stream, _, _ in places],
            "topics": [topic for _, topic, _ in places],
            "partitions": [number for _, _, number in places],
            "offsets": [progress.positions[place] for place in places],
        },
    )
