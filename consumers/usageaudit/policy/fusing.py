"""Fuses the rules of a bundle into one function, so that an event only meets those that could say something of it.

A rule is one revision of one policy. Rules that share an `applies` ask it once. Below that they are put under the
values that a field must equal for them to hold, so that one look-up finds the few that an event could break; where the
field is unknown all of them still could be undecided, so None is an entry of that table too, and what lies under it is
put under another field in turn. Each field of the event is read once, and a missing parent costs one test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from usageaudit.policy.extracting import extraction
from usageaudit.policy.language import BOOL, Field, Node, Origin, Source, Span, equality, fields_read, terms
from usageaudit.policy.model import NOT_REGISTERED
from usageaudit.policy.python import TRUE, Constants, Lowered, execute, local, lower
from usageaudit.policy.remembering import key_of
from usageaudit.policy.schema import SCHEMA
from usageaudit.verdicts import CLEAN

if TYPE_CHECKING:
    from collections.abc import Iterable

    from usageaudit.policy.language import Path, Scalar
    from usageaudit.policy.model import Policy, RegistryEntry, Revision
    from usageaudit.verdicts import Verdicts

Key = tuple[Any, ...]
"""What the missing fields of an undecided rule depend on."""
Settle = Callable[..., "Verdicts"]
SMALL = 6
"""So many rules are tested one after another rather than found through a table."""
MAX_LEVELS = 3
"""So many tables lie below each other."""


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


@dataclass(frozen=True, slots=True)
class Test:
    """A part of a condition that must hold for it to hold: a field equals one of some values."""

    node: Node
    path: Path
    values: frozenset[Scalar]

    def passes(self, path: Path, value: Scalar) -> bool:
        """Tell whether this is a test of a field, passed by a value."""
        return self.path == path and value in self.values


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """A revision of a policy, with the tests that must hold for it to hold."""

    policy: Policy
    revision: Revision
    tests: tuple[Test, ...] = field(init=False)

    def __post_init__(self) -> None:
        found = ((term, equality(term)) for term in terms(self.revision.when.root))
        object.__setattr__(self, "tests", tuple(Test(term, *test) for term, test in found if test is not None))


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
        self._constants.namespace |= {
            "settle": settle,
            "CLEAN": CLEAN,
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
        whole.lines.append("elif applies is None:")
        for number in rules:
            whole.add(self._open(number), "    ")
        return whole

    def _dispatch(self, rules: list[int], given: dict[Node, Lowered], done: tuple[Path, ...]) -> _Code:
        """Return the code that tests rules; `given` are parts known to be true, `done` the fields looked up before."""
        chosen = _choose(self._rules, rules, done) if len(rules) > SMALL and len(done) < MAX_LEVELS else {}
        code = _Code()
        for number in rules:
            if number not in chosen:
                code.add(self._test(number, given))
        fields: dict[Path, list[int]] = {}
        for number, path in chosen.items():
            fields.setdefault(path, []).append(number)
        for path, numbers in fields.items():
            code.add(self._table(path, numbers, given, (*done, path)))
        return code

    def _table(self, path: Path, rules: list[int], given: dict[Node, Lowered], done: tuple[Path, ...]) -> _Code:
        """Return the code that looks a field's value up and goes on with the rules that it leaves."""
        by_value: dict[Scalar, list[int]] = {}
        for number in rules:
            for value in _values(self._rules[number], path):
                by_value.setdefault(value, []).append(number)
        made: dict[tuple[int, ...], _Code] = {}
        bodies: dict[Scalar | None, _Code] = {None: self._dispatch(rules, given, done)}
        for value, numbers in by_value.items():
            true = [(n, i) for n in numbers for i, test in enumerate(self._rules[n].tests) if test.passes(path, value)]
            key = tuple(part for pair in true for part in pair)
            if key not in made:
                nodes = {self._rules[number].tests[index].node: TRUE for number, index in true}
                made[key] = self._dispatch(numbers, {**given, **nodes}, done)
            bodies[value] = made[key]
        return self._look_up(path, bodies)

    def _look_up(self, path: Path, bodies: Mapping[Scalar | None, _Code]) -> _Code:
        """Return the code that calls the body that belongs to a field's value; each body becomes a function."""
        names = sorted(set[str]().union(*(body.names for body in bodies.values())))
        parameters = ", ".join(("violated", "undecided", *names))
        table = {value: self._function(parameters, body) for value, body in bodies.items()}
        get = f"table_{len(self._functions)}"
        self._constants.namespace[get] = table.get
        lines = [f"found = {get}({local(path)})", "if found is not None:", f"    found({parameters})"]
        return _Code(lines, {*names, local(path)})

    def _function(self, parameters: str, body: _Code) -> Callable[..., None]:
        source = f"({parameters}):\n" + "\n".join(f"    {line}" for line in body.lines)
        if source not in self._functions:
            name = f"rules_{len(self._functions)}"
            execute(f"def {name}{source}", self._constants.namespace)
            self._functions[source] = name
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
        rule = self._rules[number]
        conditions = [c.root for c in (rule.policy.applies, rule.revision.when) if c is not None]
        key, names = key_of(conditions, self._constants)
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


def _values(rule: Rule, path: Path) -> frozenset[Scalar]:
    """Return the values of a field under which a rule can hold, by its narrowest test."""
    return min((test.values for test in rule.tests if test.path == path), key=len)


def _choose(rules: list[Rule], numbers: list[int], done: tuple[Path, ...]) -> dict[int, Path]:
    """Return for each rule that has one the field to look it up by.

    A field that many values are asked for tells more rules apart than one that only few are asked for; a test for
    many values puts its rule under each of them.
    """
    asked: dict[Path, set[Scalar]] = {}
    for number in numbers:
        for path in {test.path for test in rules[number].tests} - set(done):
            asked.setdefault(path, set()).update(_values(rules[number], path))
    chosen: dict[int, Path] = {}
    for number in numbers:
        rule = rules[number]
        paths = sorted({test.path for test in rule.tests} - set(done))
        if paths:
            chosen[number] = max(paths, key=lambda path: len(asked[path]) / len(_values(rule, path)))
    return chosen
