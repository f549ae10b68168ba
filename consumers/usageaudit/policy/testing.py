"""Runs the tests that policies bring along."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from usageaudit.cloudevents import decode, encode_structured
from usageaudit.errors import BundleError
from usageaudit.policy.archive import archive, bundle_from_archive
from usageaudit.policy.explain import PolicyExplainer, PolicyExplanation
from usageaudit.policy.judge import compile_judge
from usageaudit.policy.model import JUDGED
from usageaudit.policy.schema import Occurrence

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from usageaudit.policy.judge import Judge
    from usageaudit.policy.model import Bundle, Part, Policy, PolicyTest, RegistryEntry
    from usageaudit.verdicts import Verdicts


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a test went; `problem` is empty where it passed."""

    policy_id: str
    test: PolicyTest
    problem: str = ""

    @property
    def passed(self) -> bool:
        """Whether the policy gave what the test expects."""
        return not self.problem


def run_tests(bundle: Bundle) -> Iterator[Outcome]:
    """Run the tests of every policy of a bundle, those in stage draft and retired too.

    What a bundle uses is tested as it was written: by its own lists and registry and without overrides, which are
    there to change it. A policy that is judged is also asked twice, alone and within the fused bundle, and must
    answer the same, where the test is by the registry that the bundle was fused with.
    """
    written = {part.name: as_written(bundle, part) for part in bundle.parts}
    judge = compile_judge(bundle)
    for policy in bundle.policies:
        home = written[policy.id.partition("/")[0]]
        expected, found = PolicyExplainer(home.policy(policy.id) or policy), PolicyExplainer(policy)
        for test in policy.tests:
            problem = _unexpected(expected.explain(occurrence_of(test, home.registry)), test)
            yield Outcome(policy.id, test, problem or _disagreement(policy, found, test, bundle, judge))


def as_written(bundle: Bundle, part: Part) -> Bundle:
    """Return the bundle that a part makes with nothing but what it uses, where another part uses it.

    It is the whole bundle where the part does not stand without the others.
    """
    if not any(part.name in other.uses for other in bundle.parts):
        return bundle
    needed, wanted = {part.name}, [*part.uses]
    parts = {one.name: one for one in bundle.parts}
    while wanted:
        if (name := wanted.pop()) not in needed:
            needed.add(name)
            wanted.extend(parts[name].uses)
    try:
        return bundle_from_archive(archive((part.name,), (one for one in bundle.parts if one.name in needed)))
    except BundleError:
        return bundle


def occurrence_of(test: PolicyTest, registry: Mapping[str, RegistryEntry]) -> Occurrence:
    """Return the event of a test as policies see it; what the test itself says of the application goes before."""
    event = decode(encode_structured(event_id=test.event_id, source=test.source, time=0, data=test.data))
    if test.registry is not None:
        registry = {event.data.application.name: test.registry}
    return Occurrence(event.data, test.time, test.record_time, registry, event.source, event.id)


def _unexpected(found: PolicyExplanation, test: PolicyTest) -> str:
    """Return what is not as the test expects it."""
    if found.verdict != test.expect:
        why = f" because of {' and '.join(found.deciding)}" if found.deciding else ""
        return f"expected {test.expect}, found {found.verdict}{_missing(found)}{why}"
    if test.missing is not None and found.missing_fields != test.missing:
        return f"expected {', '.join(test.missing) or 'nothing'} to be missing, found{_missing(found) or ' nothing'}"
    if test.exception is not None and found.exception_id != test.exception:
        return f"expected exception {test.exception}, found {found.exception_id or 'none'}"
    return ""


def _disagreement(policy: Policy, explainer: PolicyExplainer, test: PolicyTest, bundle: Bundle, judge: Judge) -> str:
    event = occurrence_of(test, bundle.registry)
    if policy.stage in JUDGED and test.registry is None:
        verdicts = judge(event.data, test.time, test.record_time, event.source, event.event_id)
        if recorded(policy, explainer.explain(event)) != _of(policy.id, verdicts):
            return "the fused judge and the policy alone disagree: please report this as an error of usageaudit"
    return ""


def _missing(found: PolicyExplanation) -> str:
    return f" for want of {', '.join(found.missing_fields)}" if found.missing_fields else ""


def recorded(policy: Policy, explanation: PolicyExplanation) -> tuple[object, ...] | None:
    """Return what a judge records of a policy that came out so: verdict, version, missing fields, exception."""
    verdict = explanation.verdict
    if verdict in ("ok", "not_applicable") or (verdict == "indeterminate" and policy.on_unknown == "ignore"):
        return None
    missing = explanation.missing_fields if verdict != "exempted" else ()
    return (verdict, explanation.policy_version, missing, explanation.exception_id)


def _of(policy_id: str, verdicts: Verdicts) -> tuple[object, ...] | None:
    """Return the same of what a judge found."""
    for violation in verdicts.violated:
        if violation.policy_id == policy_id:
            return ("violation", violation.policy_version, violation.missing_fields, None)
    for exemption in verdicts.exempted:
        if exemption.policy_id == policy_id:
            return ("exempted", exemption.policy_version, (), exemption.exception_id)
    for one in verdicts.indeterminate:
        if one.policy_id == policy_id:
            return ("indeterminate", one.policy_version, one.missing_fields, None)
    return None
