"""Judging: a bundle becomes one function from an event to its verdicts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

from usageaudit.policy.explain import PolicyExplainer
from usageaudit.policy.fusing import fuse
from usageaudit.policy.indexing import Rule
from usageaudit.policy.language import fields_read
from usageaudit.policy.message import EventMessage, Evidence
from usageaudit.policy.model import JUDGED
from usageaudit.policy.python import compile_condition, local
from usageaudit.policy.schema import Occurrence, value_of
from usageaudit.verdicts import Exemption, Indeterminate, Verdicts, Violation

if TYPE_CHECKING:
    from usageaudit.policy.fusing import Key
    from usageaudit.policy.model import Bundle, PolicyException

MAX_REMEMBERED = 10_000
"""How many ways of being undecided are remembered for one bundle."""


class Judge(Protocol):
    """Returns the verdicts of an event: `CLEAN`, always the same object, where there is nothing to record.

    `data` has the attributes of UsageEvent, times are microseconds. Judging never raises for a valid event.
    """

    bundle: Bundle

    def __call__(
        self,
        data: Any,
        time: int,
        record_time: int | None = None,
        source: str | None = None,
        event_id: str | None = None,
    ) -> Verdicts:
        """Judge one event."""
        ...


def compile_judge(bundle: Bundle) -> Judge:
    """Return the function that judges events by a bundle; it may be called from several threads."""
    rules = [
        Rule(policy, revision) for policy in bundle.policies if policy.stage in JUDGED for revision in policy.revisions
    ]
    judge = cast("Judge", fuse(rules, bundle.registry, _Settling(rules, bundle).settle))
    judge.bundle = bundle
    return judge


class _Settling:
    """Turns what the fused function found, rules by their numbers, into verdicts."""

    def __init__(self, rules: list[Rule], bundle: Bundle) -> None:
        self._rules = rules
        self._registry = bundle.registry
        self._explainers = {rule.policy.id: PolicyExplainer(rule.policy) for rule in rules}
        self._exceptions = {
            rule.policy.id: [_Exception(exception) for exception in rule.policy.exceptions] for rule in rules
        }
        self._messages = {rule.policy.id: EventMessage(rule.policy.message) for rule in rules}
        self._evidence = {rule.policy.id: Evidence(rule.policy.evidence) for rule in rules}
        # A service that declares nothing leaves every event of its own open in the same way.
        self._remembered: dict[tuple[int, Key], Indeterminate] = {}

    def settle(
        self,
        violated: list[int],
        undecided: list[tuple[int, Key | None]],
        data: Any,
        time: int,
        record_time: int | None,
        source: str | None,
        event_id: str | None,
    ) -> Verdicts:
        """Return the verdicts of an event; `undecided` rules come with what their missing fields depend on."""
        event = Occurrence(data, time, record_time, self._registry, source, event_id)
        violated.sort()
        undecided.sort()
        violations: list[Violation] = []
        exemptions: list[Exemption] = []
        indeterminates: list[Indeterminate] = []
        for number in violated:
            self._violation(number, event, (), violations, exemptions)
        for number, key in undecided:
            found = self._indeterminate(number, key, event)
            if self._rules[number].policy.on_unknown == "violate":
                self._violation(number, event, found.missing_fields, violations, exemptions)
            else:
                indeterminates.append(found)
        return Verdicts(tuple(violations), tuple(exemptions), tuple(indeterminates))

    def _violation(
        self,
        number: int,
        event: Occurrence,
        missing: tuple[str, ...],
        violations: list[Violation],
        exemptions: list[Exemption],
    ) -> None:
        policy, version = self._rules[number].policy, self._rules[number].revision.version
        message = self._messages[policy.id].of(event)
        for exception in self._exceptions[policy.id]:
            if exception.holds(event):
                exemptions.append(Exemption(policy.id, version, policy.severity, policy.stage, message, exception.id))
                return
        facts = self._evidence[policy.id].of(event)
        violations.append(Violation(policy.id, version, policy.severity, policy.stage, message, facts, missing))

    def _indeterminate(self, number: int, key: Key | None, event: Occurrence) -> Indeterminate:
        """Return the rule's verdict; `key` is None where the missing fields depend on more than it could hold."""
        if key is not None and (found := self._remembered.get((number, key))) is not None:
            return found
        rule = self._rules[number]
        missing = self._explainers[rule.policy.id].explain(event).missing_fields
        found = Indeterminate(rule.policy.id, rule.revision.version, missing)
        if key is not None:
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered[number, key] = found
        return found


class _Exception:
    """An exception, compiled."""

    def __init__(self, exception: PolicyException) -> None:
        self.id = exception.id
        self._expires = exception.expires
        self._condition = compile_condition(exception.when)
        self._readers = [(local(path), value_of(path)) for path in fields_read(exception.when)]

    def holds(self, event: Occurrence) -> bool:
        """Tell whether the exception is in force at the event's time, and true."""
        if event.time >= self._expires:
            return False
        return self._condition({name: read(event) for name, read in self._readers}) is True
