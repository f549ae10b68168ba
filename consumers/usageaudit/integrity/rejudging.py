"""Judges rows of the ledger again in SQL, and compares with what was recorded: one statement for many policies.

A verdict takes two bits, so that those of 32 revisions are one number: what SQL finds, and what the row says. Rows
where the two are the same number are done with; no arrays are built for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from usageaudit.integrity.window import CHOSEN
from usageaudit.policy.model import JUDGED
from usageaudit.policy.sql import Stored, ledger_columns
from usageaudit.policy.sql.judging import CODES, judgements

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from usageaudit.policy import Bundle
    from usageaudit.policy.sql import Columns
    from usageaudit.policy.sql.judging import Judgement
    from usageaudit.stores.port import Parameters
    from usageaudit.verdicts import Verdict

EXAMPLES = 3
"""How many events each kind of difference names."""
MOST_KINDS = 1000
"""How many kinds of difference one statement returns."""
Kind = Literal["verdicts_differ", "bundle_unknown", "bundle_altered"]
_IN_A_NUMBER = 32
_LONGEST = 100_000
"""Characters of SQL in one statement, unless one policy alone has more: the engine reads up to 262,144."""
_VERDICTS: tuple[Verdict, ...] = ("ok", "indeterminate", "exempted", "violation")
"""By their two bits; not_applicable is ok here, since neither is recorded."""

# Elements are numbered by the array of ids: arrays beside it that are shorter give defaults, and are found so.
_KEYS = r"""arrayConcat(
        arrayMap(i -> concat('violation\0', violated[i], '\0', toString(violated_version[i]), '\0',
            violated_severity[i], '\0', violated_stage[i], '\0'), arrayEnumerate(violated)),
        arrayMap(i -> concat('exempted\0', exempted[i], '\0', toString(exempted_version[i]), '\0',
            exempted_severity[i], '\0', exempted_stage[i], '\0', exempted_exception[i]), arrayEnumerate(exempted)),
        arrayMap(i -> concat('indeterminate\0', indeterminate[i], '\0', toString(indeterminate_version[i]), '\0\0\0'),
            arrayEnumerate(indeterminate)))"""
_LENGTHS = """length(violated_version) != length(violated) OR length(violated_severity) != length(violated)
        OR length(violated_stage) != length(violated) OR length(exempted_version) != length(exempted)
        OR length(exempted_severity) != length(exempted) OR length(exempted_stage) != length(exempted)
        OR length(exempted_exception) != length(exempted) OR length(indeterminate_version) != length(indeterminate)"""
_POLICIES = "arrayConcat(violated, exempted, indeterminate)"
_DAY = "toUnixTimestamp(toStartOfDay(ingest_time))"
_FOUND_IN = f"count(), groupArraySorted({EXAMPLES})((toString(event_source), event_id))"
_MISSHAPEN, _REPEATED = "misshapen", "repeated"
_SHAPES = {
    _MISSHAPEN: "the columns of verdicts, which belong together, have different lengths",
    _REPEATED: "a policy has more than one verdict",
}

_UNKNOWN = f"""SELECT {_DAY} AS day, key, {_FOUND_IN} FROM (
    SELECT ingest_time, event_source, event_id, arrayJoin(arrayConcat(
        arrayFilter(key -> transform(key, {{known:Array(String)}}, {{ones:Array(UInt8)}}, 0) = 0, {_KEYS}),
        if({_LENGTHS}, ['{_MISSHAPEN}'], []),
        if(length(arrayDistinct({_POLICIES})) != length({_POLICIES}), ['{_REPEATED}'], []))) AS key
    FROM ledger WHERE {CHOSEN})
GROUP BY day, key ORDER BY day, key LIMIT {MOST_KINDS}"""


@dataclass(frozen=True, slots=True)
class Difference:
    """Rows whose verdicts are not what the bundle makes of them: on which day, of which policy, and what differs.

    `day` is the day on which they were recorded, in seconds since 1970; `events` are some of them, source and id.
    """

    bundle: str
    policy_id: str
    policy_version: int
    what: str
    day: int
    rows: int
    events: Sequence[tuple[str, str]]
    kind: Kind = "verdicts_differ"


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement about a slice: what is to be bound beside the slice, and what a row of its result says."""

    about: str
    sql: str
    parameters: Parameters
    difference: Callable[[str, Sequence[Any]], Difference]


def statements(bundle: Bundle) -> Iterator[Statement]:
    """Yield the statements that compare the recorded verdicts of a slice with those of its bundle."""
    columns, registry = _with_registry(ledger_columns(bundle.registry))
    judged = judgements(bundle, columns, JUDGED)
    known = ["", *(key for judgement in judged for _, key in _keys(judgement))]
    yield Statement(
        "which verdicts the bundle can give", _UNKNOWN, {"known": known, "ones": [1] * len(known)}, _not_known
    )
    for group in _groups(judged):
        keys, weights = [""], [0]
        for place, judgement in enumerate(group):
            for bits, key in _keys(judgement):
                keys.append(key)
                weights.append(bits << 2 * place)
        about = ", ".join(dict.fromkeys(judgement.policy.id for judgement in group))
        yield Statement(about, _compared(group, registry), {"keys": keys, "weights": weights}, _comparing(group))


def _with_registry(columns: Columns) -> tuple[Columns, Mapping[str, str]]:
    """Return columns whose registry is looked up once a row, and by the names that they have instead what they are."""
    named, selected = {**columns}, {}
    for path, stored in columns.items():
        if path[0] == "registry":
            name = "_".join(path)
            there = f"{name}_present" if stored.present else ""
            selected[name] = stored.value
            selected |= {there: stored.present} if there else {}
            named[path] = Stored(name, there)
    return named, selected


def _groups(judged: Iterable[Judgement]) -> Iterator[list[Judgement]]:
    group: list[Judgement] = []
    length = 0
    for judgement in judged:
        if group and (len(group) == _IN_A_NUMBER or length + len(judgement.sql) > _LONGEST):
            yield group
            group, length = [], 0
        group.append(judgement)
        length += len(judgement.sql)
    if group:
        yield group


def _keys(judgement: Judgement) -> Iterator[tuple[int, str]]:
    """Yield how a row may name a revision, each with the bits of the verdict."""
    policy, version = judgement.policy, judgement.revision.version
    graded = f"{policy.id}\0{version}\0{policy.severity}\0{policy.stage}\0"
    yield _VERDICTS.index("violation"), f"violation\0{graded}"
    for exception in policy.exceptions:
        yield _VERDICTS.index("exempted"), f"exempted\0{graded}{exception.id}"
    yield _VERDICTS.index("indeterminate"), f"indeterminate\0{policy.id}\0{version}\0\0\0"


def _compared(group: Sequence[Judgement], registry: Mapping[str, str]) -> str:
    """Return the statement that counts the rows whose verdicts by a group are not what they say."""
    found = " + ".join(_bits(place, judgement) for place, judgement in enumerate(group))
    names = sorted(name for name in registry if any(name in judgement.sql for judgement in group))
    selected = ", ".join(["*", *(f"{registry[name]} AS {name}" for name in names)])
    recorded = "transform(key, {keys:Array(String)}, {weights:Array(UInt64)}, toUInt64(0))"
    differing = f"bitAnd(bitShiftRight(bitXor(found, recorded), 2 * place), 3) != 0, range({len(group)})"
    return f"""SELECT day, place, found_here, recorded_here, {_FOUND_IN} FROM (
    SELECT {_DAY} AS day, event_source, event_id, arrayJoin(arrayFilter(place -> {differing})) AS place,
        bitAnd(bitShiftRight(found, 2 * place), 3) AS found_here,
        bitAnd(bitShiftRight(recorded, 2 * place), 3) AS recorded_here
    FROM (SELECT ingest_time, event_source, event_id, {found} AS found,
            arraySum(arrayMap(key -> {recorded}, {_KEYS})) AS recorded
        FROM (SELECT {selected} FROM ledger WHERE {CHOSEN}))
    WHERE found != recorded)
GROUP BY day, place, found_here, recorded_here ORDER BY day, place, found_here, recorded_here LIMIT {MOST_KINDS}"""


def _bits(place: int, judgement: Judgement) -> str:
    """Return the two bits of a verdict at their place; an open one that the policy ignores is not recorded."""
    recorded = _VERDICTS[2:] if judgement.policy.on_unknown == "ignore" else _VERDICTS[1:]
    codes = [CODES[verdict] for verdict in recorded]
    bits = [_VERDICTS.index(verdict) << 2 * place for verdict in recorded]
    return f"transform({judgement.sql}, {codes}, {bits}, toUInt64(0))"


def _comparing(group: Sequence[Judgement]) -> Callable[[str, Sequence[Any]], Difference]:
    def difference(bundle: str, row: Sequence[Any]) -> Difference:
        day, place, found, recorded, rows, events = row
        judgement = group[place]
        what = f"recorded is {_named(recorded)}, and SQL finds {_named(found)}"
        return Difference(bundle, judgement.policy.id, judgement.revision.version, what, day, rows, events)

    return difference


def _named(bits: int) -> str:
    return "nothing" if _VERDICTS[bits] == "ok" else _VERDICTS[bits]


def _not_known(bundle: str, row: Sequence[Any]) -> Difference:
    day, key, rows, events = row
    if key in _SHAPES:
        return Difference(bundle, "", 0, _SHAPES[key], day, rows, events)
    verdict, policy_id, version, severity, stage, exception = str(key).rsplit("\0", 5)
    stated = " ".join(filter(None, (severity, stage, exception and f"by {exception}")))
    what = f"recorded is {verdict}{stated and f' ({stated})'}, which no policy of the bundle can give"
    return Difference(bundle, policy_id, int(version), what, day, rows, events)
