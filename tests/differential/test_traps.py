"""What SQL that is written as the condition reads would get wrong, on the engines themselves, and ours does not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.differential.occurrences import Sample
from tests.differential.sides import SqlSide, occurrence, python_side, values_of
from tests.strategies import MINIMAL
from usageaudit.errors import QueryError
from usageaudit.pipeline.judging import judge_records
from usageaudit.policy import SCHEMA, RegistryEntry
from usageaudit.policy.language import InvalidCondition, Origin, check, parse
from usageaudit.policy.sql import ledger_columns, lower
from usageaudit.streams.port import Record
from usageaudit.verdicts import CLEAN

if TYPE_CHECKING:
    from usageaudit.policy.language import Condition
    from usageaudit.stores.port import Store

MONDAY = 1_714_953_600_000_000
"""2024-05-06T00:00:00Z, a Monday."""
REGISTRY = {"a": RegistryEntry(approved_use_cases=())}


@dataclass(frozen=True, slots=True)
class Trap:
    """A condition and its value for an event, and SQL that looks like it with what the engine gives."""

    condition: str
    value: bool | None
    naive: str
    gives: Any
    data: dict[str, Any]
    settings: str = "transform_null_in = 0"


SIGNALS = {"content": {"signals": [{"category": "c", "score": 0.5}]}}
TRAPS = {
    "in, of an unknown value": Trap(
        'actor.sector in ["a", "b"]', None, "actor_sector IN ('a', 'b')", 0, {}, "transform_null_in = 1"
    ),
    "not in, of an unknown value": Trap(
        '!(actor.sector in ["a", "b"])', None, "actor_sector NOT IN ('a', 'b')", 1, {}, "transform_null_in = 1"
    ),
    "in a missing list": Trap('"v" in tools', None, "has(tools, 'v')", 0, {}),
    "in a list, of an unknown value": Trap(
        "actor.sector in tools", None, "has(tools, actor_sector)", 0, {"tools": ["v"]}
    ),
    "exists over an unknown element": Trap(
        'content.signals.exists(s, s.detector == "a")',
        None,
        "arrayExists(d -> d = 'a', content_signals_detector)",
        0,
        SIGNALS,
    ),
    "all over an unknown element": Trap(
        'content.signals.all(s, s.detector != "a")',
        None,
        "arrayAll(d -> d != 'a', content_signals_detector)",
        0,
        SIGNALS,
    ),
    "ternary of an unknown condition": Trap(
        "oversight.human_review ? true : false", None, "if(oversight_human_review, true, false)", False, {}
    ),
    "quotient of ints": Trap(
        "usage.input_tokens / 2 == 3", True, "usage_input_tokens / 2 = 3", 0, {"usage": {"input_tokens": 7}}
    ),
    "sum that overflows": Trap(
        "usage.input_tokens + 1 > 0",
        None,
        "toInt64(usage_input_tokens) + toInt64(1) > 0",
        0,
        {"usage": {"input_tokens": 2**63 - 1}},
    ),
    "quotient by 0": Trap(
        "1 / usage.input_tokens > 0", None, "1 / usage_input_tokens > 0", 1, {"usage": {"input_tokens": 0}}
    ),
    "quotient of ints by 0": Trap(
        "1 / usage.input_tokens > 0",
        None,
        "intDiv(1, usage_input_tokens) > 0",
        QueryError,
        {"usage": {"input_tokens": 0}},
    ),
    "quotient of doubles by 0": Trap(
        "1.0 / outcome.latency_ms > 0.0", None, "1.0 / outcome_latency_ms > 0.0", 1, {"outcome": {"latency_ms": 0.0}}
    ),
    "size of a text": Trap("size(actor.sector) == 1", True, "length(actor_sector) = 1", 0, {"actor": {"sector": "é"}}),
    "dot and line break": Trap(
        'actor.sector.matches("a.b")', False, "match(actor_sector, 'a.b')", 1, {"actor": {"sector": "a\nb"}}
    ),
    "day of the week, Sunday": Trap(
        'event.time.getDayOfWeek("-00:01") == 0', True, "toDayOfWeek(event_time - INTERVAL 1 MINUTE) = 0", 0, {}
    ),
    "double of an amount": Trap(
        "cost.amount == -583858778.1094942",
        True,
        "toFloat64(cost_amount) = -583858778.1094942",
        0,
        {"cost": {"amount": "-583858778.109494177"}},
    ),
    "month": Trap("event.time.getMonth() == 4", True, "toMonth(event_time) = 4", 0, {}),
}


def _checked(text: str) -> Condition:
    return check(parse(text, origin=Origin("trap")), SCHEMA, lists={}, lets={})


def _sample(data: dict[str, Any]) -> Sample:
    whole = {**MINIMAL, **data}
    whole["actor"] = {**MINIMAL["actor"], **whole["actor"]}
    return Sample(whole, MONDAY, None, "//s", "e")


@pytest.mark.parametrize("trap", TRAPS.values(), ids=TRAPS)
def test_naive_sql_deviates_and_ours_does_not(store: Store, trap: Trap) -> None:
    """SQL that only looks like the condition gives another value, or ends the query; ours gives the condition's."""
    sample, condition = _sample(trap.data), _checked(trap.condition)
    side = SqlSide(store, REGISTRY)
    side.fill([sample])
    ask = "SELECT {} FROM ledger SETTINGS " + trap.settings
    if trap.gives is QueryError:
        with pytest.raises(QueryError):
            store.execute(ask.format(trap.naive))
    else:
        assert store.execute(ask.format(trap.naive)).rows == [(trap.gives,)]
        assert trap.gives != trap.value
    ours = store.execute(ask.format(lower(condition, ledger_columns(REGISTRY)))).rows[0][0]
    assert ours == trap.value
    assert (ours is None) is (trap.value is None)
    assert python_side(condition)(values_of(occurrence(sample, REGISTRY))) is trap.value


def test_comparison_of_types_is_refused(store: Store) -> None:
    """The engine takes 1 for equal to "1", in a constant and a column; a condition that says so has an error."""
    SqlSide(store, {}).fill([_sample({"usage": {"input_tokens": 1}})])
    assert store.execute("SELECT 1 = '1', usage_input_tokens = '1' FROM ledger").rows == [(1, 1)]
    for text in ('1 == "1"', 'usage.input_tokens == "1"'):
        with pytest.raises(InvalidCondition):
            _checked(text)


def test_wrong_type_spoils_one_record_and_not_the_batch(store: Store) -> None:
    """The engine refuses all rows of JSON for one with a wrong type; here that record alone is rejected."""
    good = _sample({}).record(0)
    value = (good.value or b"").replace(b'"operation"', b'"usage":1,"operation"')
    lines = '{"n": 1}\n{"n": "x"}'
    with pytest.raises(QueryError):
        store.execute(f"SELECT * FROM format(JSONEachRow, 'n UInt64', '{lines}')")
    judged = judge_records([good, Record(1, None, value, ())], lambda *_: CLEAN)
    assert (judged.accepted, [kept[0] for kept in judged.rejected]) == (1, [1])


FOUND = {
    "a negation in a macro": (
        "content.signals.all(s, !!oversight.human_review)",
        {"oversight": {"human_review": True}, **SIGNALS},
    ),
    "the empty text in a list": ('"" in tools', {"tools": ["a", ""]}),
    "an empty text that is computed": (
        '"".lowerAscii() in labels && "".lowerAscii() in tools',
        {"labels": {"b": "c", "": "a"}, "tools": ["a", ""]},
    ),
    "the empty text as a key": ('labels[""] == "a" && "" in labels', {"labels": {"b": "c", "": "a"}}),
    "a constant condition on no element": ("content.signals.exists(s, 1 < 3)", {"content": {"signals": []}}),
    "the last digit of a short amount": ("cost.amount == -3.8585", {"cost": {"amount": "-3.8585"}}),
    "the smallest double": ("outcome.latency_ms == 5e-324", {"outcome": {"latency_ms": 5e-324}}),
    "no use case that is approved": ("registry.approved_use_cases.exists_one(u, u > model.name)", {}),
    "small constants beside large ones": (
        '(oversight.human_review ? timestamp("1970-01-01T00:00:00Z") + duration("0") : event.time).getDate() == 1',
        {"oversight": {"human_review": True}},
    ),
}


@pytest.mark.parametrize(("text", "data"), FOUND.values(), ids=FOUND)
def test_what_random_cases_found_stays_repaired(store: Store, text: str, data: dict[str, Any]) -> None:
    """Conditions on which the back ends disagreed once agree, beside events of other kinds."""
    samples = [_sample({**data, "application": {"name": name}}) for name in ("a", "b")]
    samples += [_sample({}), _sample({"tools": ["x"], "labels": {"x": "y"}})]
    samples = [Sample(one.data, one.time, None, "//s", str(number)) for number, one in enumerate(samples)]
    condition, side = _checked(text), SqlSide(store, REGISTRY)
    side.fill(samples)
    python = [python_side(condition)(values_of(occurrence(sample, REGISTRY))) for sample in samples]
    assert side.ask([condition]) == [python]
