"""Says which parts of a policy's conditions its tests decide, and which they never show true, false or unknown.

A part is a test of facts of the event, a macro over a list, or an `&&`, `||` or `? :` of such; `!` is told by what it
negates. As in judging, a revision is looked at where it is in force and `applies` is not false, an exception where it
could exempt. What a bundle uses is looked at as it was written, as its tests are run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from usageaudit.policy.language import BOOL, Call, Const, Element, Field, Has, Member, Named, Node, Quantified, children
from usageaudit.policy.language.diagnostics import at
from usageaudit.policy.language.outcomes import outcomes
from usageaudit.policy.language.tree import fields_read, walk
from usageaudit.policy.python import Evaluator, local
from usageaudit.policy.schema import EVENT_ID, SOURCE, value_of
from usageaudit.policy.testing import as_written, occurrence_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from usageaudit.policy.language import Condition, Diagnostic
    from usageaudit.policy.language.outcomes import Truth, Truths
    from usageaudit.policy.model import Bundle, Policy
    from usageaudit.policy.python import Values
    from usageaudit.policy.schema import Occurrence

_WORDS: tuple[tuple[Truth, str], ...] = ((True, "true"), (False, "false"), (None, "unknown"))
_GIVEN = (SOURCE, EVENT_ID)
"""What no event comes without, and no test can leave out."""
_LOGIC = ("&&", "||", "?:")


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a condition: which values it can take, and which the tests made it take.

    `condition` says whose part it is: "applies", "version 2", "let police", "exception EX-17"; `whole` whether it is
    the outermost part of that.
    """

    condition: str
    node: Node = field(repr=False)
    possible: Truths
    seen: Truths
    whole: bool

    @property
    def decided(self) -> bool:
        """Whether tests show it true and false, as far as it can be either."""
        return self.possible - {None} <= self.seen

    @property
    def left_open(self) -> bool | None:
        """Whether a test shows it unknown; None where no missing field makes it so."""
        return None in self.seen if None in self.possible else None

    @property
    def never(self) -> tuple[str, ...]:
        """What no test shows: of "true", "false" and "unknown" those that are possible and were not seen."""
        return tuple(word for value, word in _WORDS if value in self.possible and value not in self.seen)

    def diagnostic(self) -> Diagnostic:
        """Return the place of the part, and what was not seen of it."""
        said = " and ".join(f"never {word}" for word in self.never) if self.seen else "no test looks at this"
        return at(self.node.span, "error", f"{self.condition}: {said}")


@dataclass(frozen=True, slots=True)
class Coverage:
    """What the tests of a policy decide of its conditions."""

    policy_id: str
    tests: int
    parts: tuple[Part, ...]

    @property
    def decided(self) -> int:
        """How many parts tests show both true and false."""
        return sum(part.decided for part in self.parts)

    @property
    def undecided(self) -> tuple[Part, ...]:
        """The parts of which something was never seen; of a condition that no test looks at only the whole."""
        return tuple(part for part in self.parts if part.never and (part.seen or part.whole))


def coverage(bundle: Bundle) -> Iterator[Coverage]:
    """Yield what the tests of each policy decide, by policy id."""
    written = {part.name: as_written(bundle, part) for part in bundle.parts}
    for policy in bundle.policies:
        home = written[policy.id.partition("/")[0]]
        watch = _Watch(home.policy(policy.id) or policy)
        for test in policy.tests:
            watch.judge(occurrence_of(test, home.registry))
        yield Coverage(policy.id, len(policy.tests), tuple(watch.parts()))


class _Watch:
    """Evaluates the conditions of a policy as judging it does, and keeps the values that their parts had."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._evaluator = Evaluator()
        self._seen: dict[int, set[Truth]] = {}
        conditions = _conditions(policy).values()
        self._readers = {local(path): value_of(path) for one in conditions for path in fields_read(one)}

    def parts(self) -> Iterator[Part]:
        """Yield the parts of all conditions in the order of the policy, each with what was seen of it."""
        for name, condition in _conditions(self._policy).items():
            possible = outcomes(condition.root, given=_GIVEN)
            whole = True
            for node in _parts(condition.root):
                found = possible.get(id(node), frozenset())
                if found - {None} and any(isinstance(one, Field | Element) for one in walk(node)):
                    yield Part(name, node, found, frozenset(self._seen.get(id(node), ())), whole)
                    whole = False

    def judge(self, event: Occurrence) -> None:
        """Look at the conditions that decide what the policy says of an event."""
        revision = self._policy.revision_at(event.time)
        if revision is None:
            return
        values = {name: read(event) for name, read in self._readers.items()}
        applies = True if self._policy.applies is None else self._look(self._policy.applies.root, values)
        if applies is False:
            return
        when = self._look(revision.when.root, values)
        undecided = applies is None or when is None
        if self._policy.on_unknown == "violate" if undecided else when:
            self._exempt(event, values)

    def _exempt(self, event: Occurrence, values: Values) -> None:
        for exception in self._policy.exceptions:
            if event.time < exception.expires and self._look(exception.when.root, values):
                return

    def _look(self, node: Node, values: Values) -> Truth:
        """Return the value of a truth; what is looked at for it is kept."""
        value = cast("Truth", self._evaluator.value(node, values))
        self._seen.setdefault(id(node), set()).add(value)
        self._look_below(node, values)
        return value

    def _look_below(self, node: Node, values: Values) -> None:
        match node:
            case Quantified(operand=operand, predicate=predicate):
                self._look_below(operand, values)
                for inner in self._evaluator.elements(node, values) or ():
                    self._look(predicate, inner)
            case Call(operator=row, arguments=(condition, then, otherwise)) if row.name == "?:":
                truth = self._look(condition, values)
                if truth is not None:
                    self._look_at(then if truth else otherwise, values)
            case Has():
                return
            case _:
                for child in children(node):
                    self._look_at(child, values)

    def _look_at(self, node: Node, values: Values) -> None:
        if node.type == BOOL:
            self._look(node, values)
        else:
            self._look_below(node, values)


def _conditions(policy: Policy) -> Mapping[str, Condition]:
    """Return the conditions of a policy by what they are called, without sub-conditions that none of them names."""
    found: dict[str, Condition] = {} if policy.applies is None else {"applies": policy.applies}
    found |= {f"version {revision.version}": revision.when for revision in policy.revisions}
    found |= {f"exception {exception.id}": exception.when for exception in policy.exceptions}
    named = {node.name for one in found.values() for node in walk(one.root) if isinstance(node, Named)}
    lets = {f"let {name}": condition for name, condition in policy.lets.items() if name in named}
    return lets | found


def _parts(node: Node, *, truth: bool = True) -> Iterator[Node]:
    """Yield the parts of a condition; what a sub-condition holds are parts of that."""
    if isinstance(node, Named | Const):
        return
    joins = isinstance(node, Call) and node.operator.name in _LOGIC
    negates = isinstance(node, Call) and node.operator.name == "!"
    if node.type == BOOL and not negates and (truth or not isinstance(node, Field | Member | Element)):
        yield node
    if not isinstance(node, Has):
        within = joins or negates or isinstance(node, Quantified)
        for child in children(node):
            yield from _parts(child, truth=within)
