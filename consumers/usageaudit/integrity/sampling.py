"""A third opinion on a sample of rows: each policy's explanation of the event, made anew from the record's own bytes.

It compares what SQL can't: missing fields, and which exception excused a violation.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from usageaudit.cloudevents import decode_recorded
from usageaudit.errors import InvalidEvent
from usageaudit.integrity.rejudging import Difference
from usageaudit.integrity.window import CHOSEN
from usageaudit.policy import explain_event

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from usageaudit.integrity.window import Slice
    from usageaudit.policy import Bundle, PolicyExplanation
    from usageaudit.stores.port import Store

PLACES, AT_EACH = 10, 20
"""A sample of a slice are so many rows in the ledger's order, from each of so many places in it."""

_PLACES = f"""SELECT toUnixTimestamp64Micro(event_time), toString(event_source), event_id FROM ledger WHERE {CHOSEN}
ORDER BY cityHash64(event_source, event_id) LIMIT {{places:UInt32}}"""
_VIOLATED = ("violated", "violated_version", "violated_severity", "violated_stage", "violated_missing")
_EXEMPTED = ("exempted", "exempted_version", "exempted_severity", "exempted_stage", "exempted_exception")
_UNDECIDED = ("indeterminate", "indeterminate_version", "indeterminate_missing")
_SAMPLE = f"""SELECT raw, toString(content_mode), toString(event_source), event_id, toUnixTimestamp64Micro(event_time),
    toUnixTimestamp64Milli(record_time), toUnixTimestamp(toStartOfDay(ingest_time)),
    {", ".join((*_VIOLATED, *_EXEMPTED, *_UNDECIDED))}
FROM ledger WHERE {CHOSEN} AND event_time >= fromUnixTimestamp64Micro({{time:Int64}}, 'UTC')
    AND (toUnixTimestamp64Micro(event_time), toString(event_source), event_id)
        >= ({{time:Int64}}, {{source:String}}, {{id:String}})
    AND notEmpty(raw)
ORDER BY event_time, event_source, event_id LIMIT {{most:UInt32}}"""
_HEAD = 7

Told = tuple[object, ...]
"""What is said of one policy: its verdict, version, and what goes with that verdict."""


def sampled(store: Store, one: Slice, bundle: Bundle) -> Iterator[Difference | None]:
    """Yield for each row of a sample of a slice what differs, a policy each, or None where nothing does.

    Rows without their bytes are left out.
    """
    seen: set[tuple[str, str, int]] = set()
    for place in _places(store, one):
        for row in store.execute(_SAMPLE, {**one.parameters, **place}).rows:
            key = (str(row[2]), str(row[3]), int(row[4]))
            if key not in seen:
                seen.add(key)
                differing: Sequence[Difference | None] = _differences(bundle, row)
                yield from differing or (None,)


def _places(store: Store, one: Slice) -> Iterator[dict[str, Any]]:
    """Yield from which row on how many are taken: all of them at once where they are few."""
    if one.rows <= PLACES * AT_EACH:
        yield {"time": one.parameters["first"], "source": "", "id": "", "most": PLACES * AT_EACH}
        return
    for time, source, event_id in store.execute(_PLACES, {**one.parameters, "places": PLACES}).rows:
        yield {"time": time, "source": source, "id": event_id, "most": AT_EACH}


def _differences(bundle: Bundle, row: Sequence[Any]) -> list[Difference]:
    raw, mode, source, event_id, time, record_time, day = row[:_HEAD]
    said = []
    try:
        event = decode_recorded(raw.encode() if isinstance(raw, str) else raw, mode, source, event_id, time)
    except InvalidEvent as error:
        said.append(("", 0, f"the record's bytes are no usage event: {error}"))
    else:
        moment = None if record_time is None else record_time * 1000
        found = _found(bundle, explain_event(bundle, event.data, event.time, moment, event.source, event.id))
        recorded = _recorded(row[_HEAD:])
        for policy_id in sorted(found.keys() | recorded.keys()):
            if found[policy_id] != recorded[policy_id]:
                version = next(int(str(told[1])) for told in (*recorded[policy_id], *found[policy_id]))
                what = f"recorded is {_text(recorded[policy_id])}, and its bytes say {_text(found[policy_id])}"
                said.append((policy_id, version, what))
    return [
        Difference(bundle.hash, policy_id, version, what, int(day), 1, [(source, event_id)])
        for policy_id, version, what in said
    ]


def _found(bundle: Bundle, explanations: Sequence[PolicyExplanation]) -> dict[str, list[Told]]:
    policies = {policy.id: policy for policy in bundle.policies}
    told: dict[str, list[Told]] = defaultdict(list)
    for one in explanations:
        policy = policies[one.policy_id]
        graded = (one.verdict, one.policy_version, policy.severity, policy.stage)
        if one.verdict == "violation":
            told[one.policy_id].append((*graded, one.missing_fields))
        elif one.verdict == "exempted":
            told[one.policy_id].append((*graded, one.exception_id))
        elif one.verdict == "indeterminate" and policy.on_unknown != "ignore":
            told[one.policy_id].append((one.verdict, one.policy_version, one.missing_fields))
    return told


def _recorded(columns: Sequence[Sequence[Any]]) -> dict[str, list[Told]]:
    violated, rest = columns[: len(_VIOLATED)], columns[len(_VIOLATED) :]
    exempted, undecided = rest[: len(_EXEMPTED)], rest[len(_EXEMPTED) :]
    told: dict[str, list[Told]] = defaultdict(list)
    for verdict, arrays in (("violation", violated), ("exempted", exempted), ("indeterminate", undecided)):
        for policy_id, *rest in zip(*arrays, strict=False):
            told[str(policy_id)].append((verdict, *(tuple(one) if isinstance(one, list) else one for one in rest)))
    return told


def _text(told: Sequence[Told]) -> str:
    return " and ".join(map(_one, told)) or "nothing"


def _one(told: Told) -> str:
    verdict, version, *rest = told
    last = rest.pop()
    with_it = f"without {', '.join(last)}" if isinstance(last, tuple) and last else f"by {last}" if last else ""
    stated = ", ".join([f"version {version}", *map(str, rest), *filter(None, [with_it])])
    return f"{verdict} ({stated})"
