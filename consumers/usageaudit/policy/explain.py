"""Judges an event by the policies of a bundle one by one, and says why each came out so.

This is the meaning of a policy, written down once; the fused judge must agree with it on every event, and a property
test holds it to that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from usageaudit.policy.language import fields_read
from usageaudit.policy.model import JUDGED
from usageaudit.policy.python import Explainer, Explanation, local
from usageaudit.policy.schema import Occurrence, value_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from usageaudit.policy.language import Condition
    from usageaudit.policy.model import Bundle, Policy, PolicyException, Revision
    from usageaudit.policy.windows.model import Window
    from usageaudit.verdicts import Verdict


@dataclass(frozen=True, slots=True)
class PolicyExplanation:
    """What a policy says of an event, and why.

    `policy_version` is None where no revision was in force. `missing_fields` are those that would have decided it,
    sorted; `deciding` are the parts of its conditions that decided, as their author wrote them.
    """

    policy_id: str
    policy_version: int | None
    verdict: Verdict
    missing_fields: tuple[str, ...] = ()
    deciding: tuple[str, ...] = ()
    exception_id: str | None = None


def explain_event(
    bundle: Bundle,
    data: Any,
    time: int,
    record_time: int | None = None,
    source: str | None = None,
    event_id: str | None = None,
) -> tuple[PolicyExplanation, ...]:
    """Return what each judged policy of a bundle says of an event, by policy id.

    `data` has the attributes of UsageEvent, times are microseconds. Policies in stage draft and retired are left out,
    as the judge leaves them out.
    """
    event = Occurrence(data, time, record_time, bundle.registry, source, event_id)
    return tuple(explainer.explain(event) for explainer in _explainers(bundle))


@dataclass(frozen=True, slots=True)
class WindowExplanation:
    """Whether an event counts for a windowed policy, which is decided over many events, and why.

    `counts` is None where the event leaves it open, for want of `missing_fields`. Of a policy with steps, or one that
    waits for something, an event counts that is one of those.
    """

    policy_id: str
    policy_version: int | None
    counts: bool | None
    missing_fields: tuple[str, ...] = ()
    deciding: tuple[str, ...] = ()
    exception_id: str | None = None


def explain_windowed(
    bundle: Bundle,
    data: Any,
    time: int,
    record_time: int | None = None,
    source: str | None = None,
    event_id: str | None = None,
) -> tuple[WindowExplanation, ...]:
    """Return whether an event counts for each judged windowed policy of a bundle, by policy id; see explain_event."""
    event = Occurrence(data, time, record_time, bundle.registry, source, event_id)
    return tuple(
        _counts(policy, policy.window, event)
        for policy in bundle.windowed
        if policy.stage in JUDGED and policy.window is not None
    )


def _counts(policy: Policy, window: Window, event: Occurrence) -> WindowExplanation:
    """Return whether `when` chooses an event, or an absence expects it, and all that it is counted by is known."""
    found = PolicyExplainer(replace(policy, on_unknown="record")).explain(event)
    verdict, missing, deciding = found.verdict, found.missing_fields, found.deciding
    own = (*window.steps, *((window.expect,) if window.expect is not None else ()))
    others = [_Condition(one).explain(event) for one in own] if found.policy_version is not None else []
    applies = policy.applies is None or bool(_Condition(policy.applies).explain(event).value)
    if window.expect is not None and applies and verdict != "violation" and others and others[0].value is not False:
        verdict = "violation" if others[0].value else "indeterminate"
        missing, deciding = others[0].missing, others[0].deciding
    if window.steps and verdict == "violation" and not any(one.value for one in others):
        verdict = "indeterminate" if any(one.value is None for one in others) else "ok"
        missing = tuple(sorted({name for one in others for name in one.missing}))
        deciding = tuple(text for one in others for text in one.deciding)
    counted_by = (*window.group_by, *((window.field,) if window.field is not None else ()))
    unsaid = tuple(".".join(path) for path in dict.fromkeys(counted_by) if value_of(path)(event) is None)
    if verdict == "violation" and unsaid:
        verdict, missing = "indeterminate", unsaid
    counts = None if verdict == "indeterminate" else verdict == "violation"
    missing = () if counts is False else missing
    return WindowExplanation(policy.id, found.policy_version, counts, missing, deciding, found.exception_id)


@lru_cache(maxsize=8)
def _explainers(bundle: Bundle) -> tuple[PolicyExplainer, ...]:
    return tuple(PolicyExplainer(policy) for policy in bundle.policies if policy.stage in JUDGED)


class _Condition:
    """A condition with the values that it reads."""

    def __init__(self, condition: Condition) -> None:
        self._explainer = Explainer(condition)
        self._readers = [(local(path), value_of(path)) for path in fields_read(condition)]

    def explain(self, event: Occurrence) -> Explanation:
        """Return value, deciding parts and missing fields."""
        values: Mapping[str, object] = {name: read(event) for name, read in self._readers}
        return self._explainer.explain(values)


_HOLDS = Explanation(value=True, deciding=(), missing=())


class PolicyExplainer:
    """Explains one policy for many events, whatever its stage."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._applies = _Condition(policy.applies) if policy.applies is not None else None
        self._revisions = {revision.version: _Condition(revision.when) for revision in policy.revisions}
        self._exceptions = [(exception, _Condition(exception.when)) for exception in policy.exceptions]

    def explain(self, event: Occurrence) -> PolicyExplanation:
        """Return what the policy says of an event."""
        revision = self._policy.revision_at(event.time)
        if revision is None:
            return PolicyExplanation(self._policy.id, None, "not_applicable")
        applies = self._applies.explain(event) if self._applies is not None else _HOLDS
        if applies.value is False:
            return self._says(revision, "not_applicable", deciding=applies.deciding)
        when = self._revisions[revision.version].explain(event)
        if applies.value is None or when.value is None:
            return self._undecided(revision, applies, when, event)
        if when.value:
            return self._violated(revision, event, (), when.deciding)
        return self._says(revision, "ok", deciding=when.deciding)

    def _undecided(
        self, revision: Revision, applies: Explanation, when: Explanation, event: Occurrence
    ) -> PolicyExplanation:
        open_ = [explanation for explanation in (applies, when) if explanation.value is None]
        missing = tuple(sorted({name for explanation in open_ for name in explanation.missing}))
        deciding = tuple(dict.fromkeys(text for explanation in open_ for text in explanation.deciding))
        if self._policy.on_unknown == "violate":
            return self._violated(revision, event, missing, deciding)
        return self._says(revision, "indeterminate", missing, deciding)

    def _violated(
        self, revision: Revision, event: Occurrence, missing: tuple[str, ...], deciding: tuple[str, ...]
    ) -> PolicyExplanation:
        found = self.exception_for(event)
        if found is None:
            return self._says(revision, "violation", missing, deciding)
        exception, why = found
        return self._says(revision, "exempted", missing, (*deciding, *why), exception.id)

    def exception_for(self, event: Occurrence) -> tuple[PolicyException, tuple[str, ...]] | None:
        """Return the first exception that is in force at the event's time and true, with the parts that decided it."""
        for exception, condition in self._exceptions:
            if event.time < exception.expires:
                explanation = condition.explain(event)
                if explanation.value:
                    return exception, explanation.deciding
        return None

    def _says(
        self,
        revision: Revision,
        verdict: Verdict,
        missing: tuple[str, ...] = (),
        deciding: tuple[str, ...] = (),
        exception_id: str | None = None,
    ) -> PolicyExplanation:
        return PolicyExplanation(self._policy.id, revision.version, verdict, missing, deciding, exception_id)
