"""Fuses the rules of a bundle into one function, so that an event only meets those that could say something of it.

A rule is one revision of one policy. Rules that share an `applies` ask it once. Below that they are put under the
values that a field must equal for them to hold, so that one look-up finds the few that an event could break; where the
field is unknown all of them still could be undecided, so None is an entry of that table too, and what lies under it is
put under another field in turn. Each field of the event is read once, and a missing parent costs one test.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from usageaudit.policy.extracting import extraction
from usageaudit.policy.indexing import Rule, Way, choose
from usageaudit.policy.language import BOOL, Field, Node, Origin, Source, Span, fields_read
from usageaudit.policy.lookups import Patterns
from usageaudit.policy.model import NOT_REGISTERED
from usageaudit.policy.python import TRUE, Constants, Lowered, execute, local, lower
from usageaudit.policy.remembering import key_of
from usageaudit.policy.schema import SCHEMA
from usageaudit.verdicts import CLEAN

if TYPE_CHECKING:
    from collections.abc import Iterable

    from usageaudit.policy.language import Scalar
    from usageaudit.policy.model import RegistryEntry, Revision
    from usageaudit.verdicts import Verdicts

Key = tuple[Any, ...]
"""What the missing fields of an undecided rule depend on."""
Settle = Callable[..., "Verdicts"]


def _required() -> dict[Node, Lowered]:
    """Return the lowering of the fields that every event has: names that are never None."""
    nowhere = Span(Source("", Origin("")), 0, 0)
    fields = [
        Field(path, True, type=leaf.type, span=nowhere)
        for path, leaf in SCHEMA.leaves.items()
        if leaf.required and leaf.type != BOOL
    ]
    return {field: _total(local(field.path)) for field in fields}


def _total(name: str) -> Lowered:
    return Lowered(name, "", name, names=frozenset([name]))


REQUIRED = _required()


def fuse(rules: Iterable[Rule], registry: Mapping[str, RegistryEntry], settle: Settle) -> Callable[..., Verdicts]:
    """Return the function that judges an event by all rules; what is found goes to `settle`, by the rules' numbers."""
    return _Fusing(list(rules), registry, settle).function()


@dataclass(slots=True)
class _Code:
    """Lines of a function's body, and the local names that they read."""

    lines: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)

    def add(self, other: _Code, indent: str = "") -> None:
        self.lines += [indent + line for line in other.lines]
        self.names |= other.names


class _Fusing:
    """Writes the function; rules go by their numbers."""

    def __init__(self, rules: list[Rule], registry: Mapping[str, RegistryEntry], settle: Settle) -> None:
        self._rules = rules
        self._constants = Constants()
        self._functions: dict[str, str] = {}
        self._keys: dict[int, tuple[str, frozenset[str]]] = {}
        self._constants.namespace |= {
            "settle": settle,
            "CLEAN": CLEAN,
            "bisect_left": bisect_left,
            "bisect_right": bisect_right,
            "registered": registry.get,
            "not_registered": NOT_REGISTERED,
        }

    def function(self) -> Callable[..., Verdicts]:
        """Return the compiled function."""
        body = _Code(["violated = []", "undecided = []"])
        for applies, rules in self._by_applies().items():
            body.add(self._group(applies, rules))
        conditions = [c for rule in self._rules for c in (rule.policy.applies, rule.revision.when) if c is not None]
        read = extraction({path for condition in conditions for path in fields_read(condition)})
        end = [
            "if violated or undecided:",
            "    return settle(violated, undecided, data, time, record_time, source, event_id)",
            "return CLEAN",
        ]
        lines = ["def judge(data, time, record_time=None, source=None, event_id=None):"]
        lines += [f"    {line}" for line in (*read, *body.lines, *end)]
        execute("\n".join(lines), self._constants.namespace)
        judge: Callable[..., Verdicts] = self._constants.namespace.pop("judge")  # type: ignore[assignment]
        return judge

    def _by_applies(self) -> dict[Node | None, list[int]]:
        groups: dict[Node | None, list[int]] = {}
        for number, rule in enumerate(self._rules):
            applies = rule.policy.applies
            groups.setdefault(applies.root if applies is not None else None, []).append(number)
        return groups

    def _group(self, applies: Node | None, rules: list[int]) -> _Code:
        """Return the code of the rules that share an `applies`."""
        if applies is None:
            return self._dispatch(rules, {}, ())
        code = lower(applies, self._constants, REQUIRED)
        whole = _Code(names=set(code.names))
        within = self._dispatch(rules, {applies: TRUE}, ())
        if not code.unknown:
            whole.lines.append(f"if {code.value}:")
            whole.add(within, "    ")
            return whole
        whole.lines += [f"applies = {code.value}", "if applies:"]
        whole.add(within, "    ")
        whole.lines += ["elif applies is None:", "    pass"]
        for number in rules:
            whole.add(self._open(number), "    ")
        return whole

    def _dispatch(self, rules: list[int], given: Mapping[Node, Lowered], done: tuple[Way, ...]) -> _Code:
        """Return the code that tests rules; `given` are parts known to be true, `done` what was looked up before."""
        chosen = choose(self._rules, rules, done)
        looked_up = {number for numbers in chosen.values() for number in numbers}
        code = _Code()
        for number in rules:
            if number not in looked_up:
                code.add(self._test(number, given))
        for way, numbers in chosen.items():
            unknown = self._dispatch(numbers, given, (*done, way))
            match way.kind:
                case "equal":
                    code.add(self._equal(way, numbers, given, (*done, way), unknown))
                case "member":
                    code.add(self._member(way, numbers, given, unknown))
                case "match":
                    code.add(self._match(way, numbers, given, unknown))
                case _:
                    code.add(self._beyond(way, numbers, given, unknown))
        return code

    def _equal(
        self, way: Way, rules: list[int], given: Mapping[Node, Lowered], done: tuple[Way, ...], unknown: _Code
    ) -> _Code:
        """Return the code that goes on with the rules that a field's value leaves."""
        by_value: dict[Scalar, list[int]] = {}
        for number in rules:
            for value in self._rules[number].clue(way).values:
                by_value.setdefault(value, []).append(number)
        made: dict[tuple[int, ...], _Code] = {}
        bodies: dict[Scalar | None, _Code] = {None: unknown}
        for value, numbers in by_value.items():
            key = tuple(numbers)
            if key not in made:
                true = {self._rules[number].clue(way).term: TRUE for number in numbers}
                made[key] = self._dispatch(numbers, {**given, **true}, done)
            bodies[value] = made[key]
        names = sorted(set[str]().union(*(body.names for body in bodies.values())))
        table = {value: self._function(names, body) for value, body in bodies.items()}
        get = self._named("table", table.get)
        subject = lower(way.subject, self._constants)
        lines = [f"found = {get}({subject.value})", "if found is not None:", f"    found({_parameters(names)})"]
        return _Code(lines, {*names, *subject.names})

    def _member(self, way: Way, rules: list[int], given: Mapping[Node, Lowered], unknown: _Code) -> _Code:
        """Return the code that tests the rules to which an element of a list leads, each once."""
        names, tests = self._tests(way, rules, given, unknown)
        table: dict[Scalar, tuple[Callable[..., None], ...]] = {}
        for number in rules:
            for value in self._rules[number].clue(way).values:
                table[value] = (*table.get(value, ()), tests[number])
        subject = lower(way.subject, self._constants)
        keys, get = self._named("keys", frozenset(table)), self._named("get", table.get)
        arguments = _parameters(names)
        lines = [
            f"if {subject.unknown}:",
            f"    {self._call(names, unknown)}",
            f"elif not {keys}.isdisjoint({subject.known}):",
            f"    for found in {{test for element in {subject.known} for test in {get}(element, ())}}:",
            f"        found({arguments})",
        ]
        return _Code(lines, {*names, *subject.names})

    def _match(self, way: Way, rules: list[int], given: Mapping[Node, Lowered], unknown: _Code) -> _Code:
        """Return the code that tests the rules whose patterns are in a text."""
        names, tests = self._tests(way, rules, given, unknown)
        entries = [
            (str(next(iter(self._rules[number].clue(way).values))), number if self._rules[number].whole else test)
            for number, test in tests.items()
        ]
        patterns = self._named("patterns", Patterns(entries))
        subject = lower(way.subject, self._constants)
        lines = [
            f"found = None if {subject.unknown} else {patterns}[{subject.known}]",
            "if found is None:",
            f"    {self._call(names, unknown)}",
            "else:",
            "    violated.extend(found[0])",
        ]
        if not all(self._rules[number].whole for number in rules):
            lines.append(f"    for test in found[1]: test({_parameters(names)})")
        return _Code(lines, {*names, *subject.names})

    def _beyond(self, way: Way, rules: list[int], given: Mapping[Node, Lowered], unknown: _Code) -> _Code:
        """Return the code that tests the rules whose bounds a number is beyond."""
        names, tests = self._tests(way, rules, given, unknown)
        upwards = way.kind in (">", ">=")
        search = "bisect_left" if way.kind in (">", "<=") else "bisect_right"
        subject = lower(way.subject, self._constants, REQUIRED)
        lines = [f"number = {subject.value}", "if number is None:", f"    {self._call(names, unknown)}", "else:"]
        for whole in (True, False):
            numbers = [number for number in rules if self._rules[number].whole is whole]
            bound = {number: next(iter(self._rules[number].clue(way).values)) for number in numbers}
            numbers.sort(key=lambda number: bound[number])
            if not numbers:
                continue
            bounds = self._named("bounds", tuple(bound[number] for number in numbers))
            at = f"{search}({bounds}, number)"
            held = self._named("rules", tuple(numbers) if whole else tuple(tests[number] for number in numbers))
            reached = f"{held}[:{at}]" if upwards else f"{held}[{at}:]"
            test = f"violated.extend({reached})" if whole else f"for test in {reached}: test({_parameters(names)})"
            nearest = f"number {way.kind} {bounds}[{0 if upwards else -1}]"
            lines += [f"    if {nearest}:", f"        {test}"]
        return _Code(lines, {*names, *subject.names})

    def _tests(
        self, way: Way, rules: list[int], given: Mapping[Node, Lowered], unknown: _Code
    ) -> tuple[list[str], dict[int, Callable[..., None]]]:
        """Return a function for each rule that tests the rest of it, and the names that all of them are given."""
        bodies = {number: self._test(number, {**given, self._rules[number].clue(way).term: TRUE}) for number in rules}
        names = sorted(unknown.names.union(*(body.names for body in bodies.values())))
        return names, {number: self._function(names, body) for number, body in bodies.items()}

    def _call(self, names: list[str], body: _Code) -> str:
        if not body.lines:
            return "pass"
        return f"{self._named('unknown', self._function(names, body))}({_parameters(names)})"

    def _named(self, what: str, value: object) -> str:
        name = f"{what}_{len(self._constants.namespace)}"
        self._constants.namespace[name] = value
        return name

    def _function(self, names: list[str], body: _Code) -> Callable[..., None]:
        """Return a function with a body; one that was made before is used again."""
        lines = body.lines or ["pass"]
        source = f"({_parameters(names)}):\n" + "\n".join(f"    {line}" for line in lines)
        if source not in self._functions:
            self._functions[source] = self._named("test", None)
            execute(f"def {self._functions[source]}{source}", self._constants.namespace)
        function: Callable[..., None] = self._constants.namespace[self._functions[source]]  # type: ignore[assignment]
        return function

    def _test(self, number: int, given: Mapping[Node, Lowered]) -> _Code:
        """Return the code that tests one rule whose `applies` holds."""
        rule = self._rules[number]
        when = lower(rule.revision.when, self._constants, {**REQUIRED, **given})
        in_force = _in_force(rule.revision)
        code = _Code(names={*when.names, *({"time"} if in_force else ())})
        code.lines.append(f"if {' and '.join([*in_force, when.may_be_true])}:")
        violated = f"violated.append({number})"
        if not when.unknown:
            code.lines.append(f"    {violated}")
        elif rule.policy.on_unknown == "ignore":
            code.lines.append(f"    if not {when.may_be_false}: {violated}")
        else:
            undecided = self._undecided(number)
            code.names |= undecided.names
            code.lines += [f"    if {when.may_be_false}: {undecided.lines[0]}", f"    else: {violated}"]
        return code

    def _undecided(self, number: int) -> _Code:
        if number not in self._keys:
            rule = self._rules[number]
            conditions = [c.root for c in (rule.policy.applies, rule.revision.when) if c is not None]
            self._keys[number] = key_of(conditions, self._constants)
        key, names = self._keys[number]
        return _Code([f"undecided.append(({number}, {key}))"], set(names))

    def _open(self, number: int) -> _Code:
        """Return the code for a rule whose `applies` is unknown."""
        rule = self._rules[number]
        if rule.policy.on_unknown == "ignore":
            return _Code()
        undecided, in_force = self._undecided(number), _in_force(rule.revision)
        if in_force:
            undecided.names.add("time")
            undecided.lines = [f"if {' and '.join(in_force)}: {undecided.lines[0]}"]
        return undecided


def _in_force(revision: Revision) -> list[str]:
    tests = []
    if revision.start is not None:
        tests.append(f"time >= {revision.start}")
    if revision.end is not None:
        tests.append(f"time < {revision.end}")
    return tests


def _parameters(names: list[str]) -> str:
    return ", ".join(("violated", "undecided", *names))
