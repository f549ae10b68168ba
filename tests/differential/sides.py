"""The two back ends, asked for the same conditions on the same events.

Events go the way of the data path: encoded, decoded, built into rows, and inserted into the table `ledger`. Python is
asked three times: for the value, for the two truths that the stream's judge tests ("true or unknown", "false or
unknown"), and through the judge itself, with the conditions as the policies of a bundle.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from usageaudit.cloudevents import decode
from usageaudit.errors import QueryError
from usageaudit.pipeline.judging import judge_records
from usageaudit.policy import SCHEMA, compile_judge
from usageaudit.policy.python import Constants, execute, local, lower
from usageaudit.policy.schema import Occurrence, value_of
from usageaudit.policy.sql import ledger_columns
from usageaudit.policy.sql import lower as lower_to_sql
from usageaudit.stores.ledger import Ledger
from usageaudit.streams.port import Partition
from usageaudit.verdicts import CLEAN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.differential.occurrences import Sample
    from usageaudit.policy import Bundle, RegistryEntry
    from usageaudit.policy.language import Condition
    from usageaudit.policy.python import Values
    from usageaudit.stores.port import Store
    from usageaudit.verdicts import Verdicts

Truth = bool | None | str
"""True, false or unknown; of an expression that the engine refuses, why."""
_LONGEST_QUERY = 200_000
"""Conditions are asked for in queries of at most so many characters; the engine reads 262,144."""


def occurrence(sample: Sample, registry: Mapping[str, RegistryEntry]) -> Occurrence:
    """Return an event as the stream's judge sees it: decoded from its record."""
    record = sample.record(0)
    event = decode(record.value, record.headers)
    moment = None if record.timestamp is None else record.timestamp * 1000
    return Occurrence(event.data, event.time, moment, registry, event.source, event.id)


def values_of(event: Occurrence) -> Values:
    """Return all values of an event by their local names."""
    return {local(path): value_of(path)(event) for path in SCHEMA.leaves}


def python_side(condition: Condition) -> Callable[[Values], Truth]:
    """Return the function of a condition; it raises AssertionError where value and truths tell different things."""
    constants = Constants()
    code = lower(condition, constants)
    reads = "".join(f"    {name} = get({name!r})\n" for name in sorted(code.names))
    result = f"{code.value}, {code.may_be_true}, {code.may_be_false}"
    execute(f"def evaluate(values):\n    get = values.get\n{reads}    return {result}\n", constants.namespace)
    evaluate = cast("Callable[[Values], tuple[Truth, object, object]]", constants.namespace["evaluate"])

    def truth(values: Values) -> Truth:
        value, may_be_true, may_be_false = evaluate(values)
        told = {(True, False): True, (False, True): False, (True, True): None}
        pair = (bool(may_be_true), bool(may_be_false))
        if pair not in told or told[pair] is not value:
            raise AssertionError(f"the value is {value}, but may be true, may be false: {pair}")
        return value

    return truth


def judge_side(bundle: Bundle, events: Sequence[Occurrence]) -> list[dict[int, Truth]]:
    """Return for each event what the judge says of the policies, by their numbers; what it leaves out is false."""
    judge = compile_judge(bundle)
    answers: list[dict[int, Truth]] = []
    for event in events:
        verdicts = judge(event.data, event.time, event.record_time, event.source, event.event_id)
        true = dict.fromkeys((number_of(one.policy_id) for one in verdicts.violated), True)
        unknown = dict.fromkeys((number_of(one.policy_id) for one in verdicts.indeterminate), None)
        answers.append({**true, **unknown})
    return answers


def number_of(policy_id: str) -> int:
    """Return the number of the condition that a policy has."""
    return int(policy_id.partition("/")[2])


def _clean(data: Any, time: int, record_time: int | None, source: str, event_id: str) -> Verdicts:
    return CLEAN


@dataclass(slots=True)
class SqlSide:
    """The ledger of a store, with some events in it and nothing else."""

    store: Store
    registry: Mapping[str, RegistryEntry]
    count: int = 0

    def fill(self, samples: Sequence[Sample]) -> None:
        """Put events into the ledger in place of those that were there; their offsets are their numbers.

        They go in as two data parts, since the engine keeps a column that is empty for most rows of a part otherwise.
        """
        self.store.execute("TRUNCATE TABLE ledger")
        partition = Partition(uuid.uuid4().hex, "usage-events", 0)
        ledger = Ledger(self.store)
        epoch = ledger.fence(partition, "differential")
        records = [sample.record(number) for number, sample in enumerate(samples)]
        cut = len(records) * 4 // 5
        for number, part in enumerate((records[:cut], records[cut:])):
            if part:
                judged = judge_records(part, _clean)
                assert judged.accepted == len(part)
                ledger.record(judged.block, partition, epoch, number, bundle="")
        self.count = len(samples)

    def keep_columns_apart(self, *, apart: bool) -> None:
        """Write each column of new data parts into a file of its own, as large parts have it, or all into one."""
        least = 0 if apart else 10_000_000
        names = ("min_bytes_for_wide_part", "min_rows_for_wide_part")
        self.store.execute(f"ALTER TABLE ledger MODIFY SETTING {', '.join(f'{name} = {least}' for name in names)}")

    def filtered(self, condition: Condition) -> tuple[list[int], list[int]]:
        """Return the offsets of the rows that a condition is true for, and of those that it is false for, by WHERE."""
        sql = lower_to_sql(condition, ledger_columns(self.registry))
        ask = "SELECT offset FROM ledger WHERE status = 'accepted' AND {} ORDER BY offset"
        rows = (self.store.execute(ask.format(test)).rows for test in (f"({sql})", f"NOT ({sql})"))
        true, false = ([offset for (offset,) in found] for found in rows)
        return true, false

    def ask(self, conditions: Sequence[Condition]) -> list[list[Truth]]:
        """Return for each condition its values for the events in the order of their offsets."""
        columns = ledger_columns(self.registry)
        return self.ask_sql([lower_to_sql(condition, columns) for condition in conditions])

    def ask_sql(self, expressions: Sequence[str]) -> list[list[Truth]]:
        """Return the same for SQL expressions."""
        return [answer for part in _parts(expressions) for answer in self._ask(part)]

    def _ask(self, expressions: Sequence[str]) -> list[list[Truth]]:
        listed = ", ".join(f"({expression}) AS c{number}" for number, expression in enumerate(expressions))
        try:
            rows = self.store.execute(f"SELECT {listed} FROM ledger WHERE status = 'accepted' ORDER BY offset").rows
        except QueryError as error:
            half = len(expressions) // 2
            if half:
                return [*self._ask(expressions[:half]), *self._ask(expressions[half:])]
            return [[str(error)] * self.count]
        return [[_truth(row[number]) for row in rows] for number in range(len(expressions))]


def _truth(value: Any) -> Truth:
    assert value is None or value in (0, 1), value
    return None if value is None else bool(value)


def _parts(expressions: Sequence[str]) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    room = _LONGEST_QUERY
    for expression in expressions:
        room -= len(expression) + 20
        if room < 0 and parts[-1]:
            parts.append([])
            room = _LONGEST_QUERY - len(expression)
        parts[-1].append(expression)
    return parts
