"""What the files of a bundle may say: the keys of each mapping, what each holds, and what it means.

The loader takes the names of keys from here, and the JSON Schema that editors complete and check with is made of it.
What a schema can't say, such as whether a condition has the right types, the loader alone finds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from usageaudit.policy.model import ON_UNKNOWN, STAGES
from usageaudit.policy.schema import SCHEMA
from usageaudit.policy.windows.model import KINDS
from usageaudit.verdicts import SEVERITIES, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*", re.ASCII)
"""Names of bundles and of clauses."""
WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
"""Names of lists and of sub-conditions."""
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
_MOST = 2**31 - 1
MAX_EVENTS = 10_000
"""How many events the stream of a test may have."""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a mapping: the JSON Schema of its value, what it means, and whether it must be there.

    Where it need not, null is the same as leaving it out.
    """

    schema: Json
    doc: str
    required: bool = False


Shape = dict[str, Key]


def object_of(shape: Mapping[str, Key]) -> Json:
    """Return the JSON Schema of a mapping with these keys and no others."""
    schema: Json = {
        "type": "object",
        "properties": {name: {**_value(key), "description": key.doc} for name, key in shape.items()},
        "additionalProperties": False,
    }
    required = [name for name, key in shape.items() if key.required]
    return {**schema, "required": required} if required else schema


def _value(key: Key) -> Json:
    return key.schema if key.required else or_null(key.schema)


def or_null(schema: Json) -> Json:
    """Return the schema of a value that may be null, too."""
    if "enum" in schema:
        return {**schema, "enum": [*schema["enum"], None]}
    if isinstance(schema.get("type"), str):
        return {**schema, "type": [schema["type"], "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


def map_of(value: Json, names: str = "") -> Json:
    """Return the schema of a mapping of any names, or of those that a pattern fits, to values of one kind."""
    schema = {"type": "object", "additionalProperties": value}
    return {**schema, "propertyNames": {"pattern": f"^{names}$"}} if names else schema


def list_of(item: Json) -> Json:
    """Return the schema of a list."""
    return {"type": "array", "items": item}


def choice(values: Sequence[str]) -> Json:
    """Return the schema of one of a few words."""
    return {"enum": list(values)}


TEXT: Json = {"type": "string", "pattern": r"\S"}
CONDITION: Json = {**TEXT, "maxLength": 65_536}
TEXTS = list_of(TEXT)
TIME: Json = {"type": "string", "pattern": r"^\s*[0-9]{4}"}
NAMED = frozenset(
    ".".join((*path, *member))
    for path, leaf in SCHEMA.leaves.items()
    for member in ((), *((name,) for name in leaf.members))
)
"""What an indeterminate verdict can name as missing, but for entries of maps."""
MISSING = list_of({"anyOf": [{"enum": sorted(NAMED)}, {"type": "string", "pattern": r"^labels\["}]})
PATHS = list_of({"enum": sorted(".".join(path) for path in SCHEMA.leaves)})
POLICY_ID = rf"{NAME.pattern}/{NAME.pattern}"
_TIME_DOC = "A date, or a time with a zone such as 2024-05-01T09:30:00Z."

BASIS: Shape = {
    "document": Key(TEXT, "The document that the policy rests on.", required=True),
    "clause": Key(TEXT, "The clause of it."),
    "as_of": Key(TIME, f"The day on which it was read so. {_TIME_DOC}"),
}
REVISION: Shape = {
    "version": Key(
        {"type": "integer", "minimum": 1, "maximum": _MOST}, "Its number; each revision has one of its own."
    ),
    "from": Key(TIME, f"It judges events from this time on. {_TIME_DOC}"),
    "to": Key(TIME, f"It judges events before this time. {_TIME_DOC}"),
    "when": Key(CONDITION, "The event violates the policy where this condition is true.", required=True),
    "condition": Key(CONDITION, "What the `value` of a window must not be; where it is left out, the policy's."),
}
HEARTBEAT: Shape = {
    "when": Key(CONDITION, "True for an event that shows that its source is alive.", required=True),
    "every": Key(TEXT, "Each such stretch of time has at least one, or the wait can't be decided: 10m.", required=True),
}
WINDOW: Shape = {
    "kind": Key(choice(KINDS), "What is looked for over many events.", required=True),
    "over": Key(TEXT, "How long the window is: a duration such as 24h, or `calendar day`, or `calendar month`."),
    "zone": Key(TEXT, "The time zone of the calendar, such as Europe/Paris."),
    "group_by": Key(PATHS, "Events with equal values of these fields share a window; without any, all do."),
    "field": Key(PATHS["items"], "The field whose values value_count tells apart and value_sum adds."),
    "steps": Key(list_of(CONDITION), "The conditions of temporal_ordered, in their order."),
    "expect": Key(CONDITION, "What absence waits for after an event that `when` is true for."),
    "heartbeat": Key(object_of(HEARTBEAT), "How absence tells that a source is silent."),
}
EXCEPTION: Shape = {
    "id": Key(TEXT, "A name of the exception, which is recorded with what it exempts.", required=True),
    "when": Key(CONDITION, "The events that are exempted.", required=True),
    "approved_by": Key(TEXT, "Who approved the exception.", required=True),
    "reason": Key(TEXT, "Why.", required=True),
    "expires": Key(TIME, "It holds for events before this time; a date is meant until its end, in UTC.", required=True),
}
ALERT: Shape = {
    "dedup_by": Key(PATHS, "Violations with equal values of these fields are one alert."),
    "for": Key({"type": "string", "pattern": "[0-9][dhms]$"}, "For how long they are, such as 30m, 24h or 7d."),
}
APPLICATION: Shape = {
    "owner": Key(TEXT, "Who answers for the application."),
    "team": Key(TEXT, "The team that runs it."),
    "sector": Key(TEXT, "The sector that it works in, such as law_enforcement."),
    "jurisdiction": Key(TEXT, "Where it is used."),
    "approved_use_cases": Key(TEXTS, "What it was approved for."),
    "data_classes": Key(TEXTS, "The classes of data that it handles."),
}
EVENT: Shape = {
    "event": Key(
        {"$ref": "#/definitions/UsageEvent"}, "The data of a usage event; required fields are filled in.", required=True
    ),
    "time": Key(TIME, f"The time of the event. {_TIME_DOC}"),
    "record_time": Key(TIME, f"The time of its stream record. {_TIME_DOC}"),
    "source": Key(TEXT, "Its CloudEvents source."),
    "id": Key(TEXT, "Its CloudEvents id."),
    "registry": Key(object_of(APPLICATION), "What the registry says of its application, in place of the bundle's."),
}
TEST: Shape = {
    "name": Key(TEXT, "What the test shows.", required=True),
    "expect": Key(choice(VERDICTS), "The verdict that the policy must give.", required=True),
    "missing": Key(MISSING, "The fields that must be named as missing."),
    "exception": Key(TEXT, "The exception that must exempt the event."),
    **EVENT,
}
STREAM_EVENT: Shape = {
    "time": Key(TIME, f"The time of the event. {_TIME_DOC}", required=True),
    "event": EVENT["event"],
    "source": EVENT["source"],
    "id": Key(TEXT, "Its CloudEvents id; by default its number in the stream, from 1 on."),
    "repeat": Key(
        {"type": "integer", "minimum": 1, "maximum": MAX_EVENTS},
        "How many such events there are; the second has the id and -2, and so on.",
    ),
    "every": Key({"type": "string", "pattern": "[0-9][dhms]$"}, "How far apart they are, such as 10s; by default 1s."),
}
EFFECTS: tuple[Literal["violation", "notice"], ...] = ("violation", "notice")
FINDING: Shape = {
    "group": Key(map_of({"type": ["string", "number", "boolean"]}), "Values of fields of group_by."),
    "at": Key(TEXT, "The id of the event at whose time the window crosses."),
    "window_start": Key(TIME, f"The beginning of the window. {_TIME_DOC}"),
    "window_end": Key(TIME, f"The end of the window. {_TIME_DOC}"),
    "value": Key({"type": "number"}, "What the window counts or adds up to when it crosses."),
    "effect": Key(choice(EFFECTS), "violation, or notice where a heartbeat was missing; by default violation."),
}
WINDOW_TEST: Shape = {
    "name": Key(TEXT, "What the test shows.", required=True),
    "events": Key(list_of(object_of(STREAM_EVENT)), "The events, of which those at the same time tie.", required=True),
    "expect": Key(list_of(object_of(FINDING)), "All that is found in them; [] is nothing.", required=True),
    "registry": Key(map_of(object_of(APPLICATION)), "What the registry says of applications, beside the bundle's."),
}
_CHANGEABLE: Shape = {
    "severity": Key(choice(SEVERITIES), "How severe a violation is."),
    "stage": Key(choice(STAGES), "draft and retired are not judged; shadow is, and never alerts."),
    "exceptions": Key(list_of(object_of(EXCEPTION)), "What is exempted, by whose approval, and until when."),
    "alert": Key(object_of(ALERT), "How alerts are gathered."),
}
_REVISIONS: Json = {
    "type": "array",
    "items": object_of(REVISION),
    "anyOf": [{"maxItems": 1}, {"items": {"required": ["version"], "properties": {"version": {"type": "integer"}}}}],
}
POLICY: Shape = {
    "id": Key({"type": "string", "pattern": f"^{POLICY_ID}$"}, "bundle/clause; never changes.", required=True),
    "title": Key(TEXT, "The policy in a sentence.", required=True),
    "description": Key(TEXT, "What the source says, and the reading taken where it leaves something open."),
    "basis": Key(list_of(object_of(BASIS)), "What the policy rests on."),
    "severity": Key(_CHANGEABLE["severity"].schema, _CHANGEABLE["severity"].doc, required=True),
    "stage": _CHANGEABLE["stage"],
    "applies": Key(CONDITION, "Where this condition is false, the policy has nothing to say."),
    "let": Key(map_of(CONDITION, WORD.pattern), "Named sub-conditions; each may name those before it."),
    "revisions": Key(_REVISIONS, "What the policy says, by the time of the event."),
    "when": Key(CONDITION, "Short for one revision, of version 1, that always holds."),
    "window": Key(object_of(WINDOW), "Makes the policy one of many events; `when` says which of them count."),
    "condition": Key(CONDITION, "What the `value` of a window must not be, such as value > 100."),
    "on_unknown": Key(choice(ON_UNKNOWN), "What becomes of events that leave it open."),
    "message": Key(TEXT, "What is said of a violation; {actor.id} stands for that field of the event."),
    "evidence": Key(PATHS, "The fields of the event that are kept with a violation."),
    "exceptions": _CHANGEABLE["exceptions"],
    "alert": _CHANGEABLE["alert"],
    "tests": Key({"type": "array"}, "Events with the verdicts that the policy must give, or with what it must find."),
}
TESTS_OF = {False: list_of(object_of(TEST)), True: list_of(object_of(WINDOW_TEST))}
"""The tests of a policy without and with a window."""
OVERRIDE: Shape = {name: _CHANGEABLE[name] for name in ("stage", "severity", "exceptions", "alert")}
MANIFEST: Shape = {
    "name": Key(
        {"type": "string", "pattern": f"^{NAME.pattern}$", "maxLength": 100}, "The name of the bundle.", required=True
    ),
    "uses": Key(TEXTS, "Shipped packs, and folders, whose policies hold here, too."),
    "require_approvals": Key({"type": "boolean"}, "Whether an enforced policy must have been approved as it is."),
}
APPROVAL: Shape = {
    "policy": Key(TEXT, "The policy that was approved, as pack/clause.", required=True),
    "version": Key({"type": "integer", "minimum": 1, "maximum": _MOST}, "Its version at the time.", required=True),
    "digest": Key(
        {"type": "string", "pattern": "^[0-9a-f]{64}$"}, "The digest of the meaning that was approved.", required=True
    ),
    "approved_by": Key(TEXT, "Who approved it.", required=True),
    "reason": Key(TEXT, "Why.", required=True),
    "date": Key(TIME, f"When. {_TIME_DOC}", required=True),
}
EXPECTATION: Shape = {
    "time": Key(TIME, f"The time of the event. {_TIME_DOC}", required=True),
    "verdicts": Key(
        map_of(or_null(choice(VERDICTS))), "The verdict of each clause; `others` is every other.", required=True
    ),
    "missing": Key(map_of(or_null(MISSING)), "The fields that must be named as missing, by clause."),
}
CASE: Shape = {
    "name": Key(TEXT, "What the event is.", required=True),
    "expect": Key(list_of(object_of(EXPECTATION)), "The verdicts of the clauses, by the event's time.", required=True),
    **{name: EVENT[name] for name in ("event", "record_time", "source", "id", "registry")},
}
LISTS = map_of({"anyOf": [TEXTS, list_of({"type": "number"})]}, WORD.pattern)
"""Named lists, each of texts or of numbers."""
