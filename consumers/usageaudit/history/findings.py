"""Rejudged findings: what each says, and how they are appended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from usageaudit.events.times import format_time
from usageaudit.history.counting import Effect, effect_of, verdict_of
from usageaudit.verdicts import Exemption, Indeterminate, Violation, rejudged_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from usageaudit.policy import Bundle, Policy
    from usageaudit.stores.port import Store

Key = tuple[int, str, str]
"""Time in microseconds, source and id of an event."""
Said = Violation | Exemption | Indeterminate
"""What the judge records of an event by one policy."""

_IN_A_STATEMENT = 500
_COLUMNS = {
    "finding_id": "String",
    "effect": "String",
    "policy_id": "String",
    "policy_version": "UInt32",
    "severity": "String",
    "time": "Int64",
    "source": "String",
    "id": "String",
    "message": "String",
    "stage": "String",
    "verdict": "String",
    "old_bundle": "String",
    "missing_fields": "Array(String)",
    "evidence": "String",
    "application_name": "String",
    "actor_organization": "Nullable(String)",
    "actor_id": "String",
    "model_provider": "String",
    "model_name": "String",
}
_ARRAYS = ", ".join(f"{{{name}:Array({kind})}} AS a_{name}" for name, kind in _COLUMNS.items())
_PLAIN = [name for name in _COLUMNS if name not in ("time", "source", "id")]
_APPEND = f"""INSERT INTO findings_log (kind, bundle, window_start, window_end, group_key, event_refs, created,
    {", ".join(_PLAIN)})
SELECT 'rejudged', {{bundle:String}}, fromUnixTimestamp64Micro(a_time, 'UTC'), fromUnixTimestamp64Micro(a_time, 'UTC'),
    '', CAST([(a_source, a_id)], 'Array(Tuple(source String, id String))'), now64(3, 'UTC'),
    {", ".join(f"a_{name}" for name in _PLAIN)}
FROM (SELECT 1)
ARRAY JOIN {_ARRAYS}
WHERE a_finding_id NOT IN (SELECT finding_id FROM findings_log WHERE finding_id IN {{finding_id:Array(String)}})"""


class Event(NamedTuple):
    """Who an event is, and whose."""

    key: Key
    application_name: str
    actor_organization: str | None
    actor_id: str
    model_provider: str
    model_name: str

    @property
    def name(self) -> str:
        """Source, id and time, for messages."""
        time, source, event_id = self.key
        return f"{source} {event_id} of {format_time(time)}"


@dataclass(frozen=True, slots=True)
class Replacement:
    """Codes of the verdicts before and after; `replaced` is the finding, or else the bundle, that said what was before.

    `old_bundle` is its bundle, `old_version` the version of a violation that the event's row has, 0 without one.
    `listed` tells whether a violation by the version that judges now is listed already, by the row or by a finding.
    """

    before: int
    after: int
    replaced: str
    old_bundle: str
    old_version: int
    listed: bool

    @property
    def effect(self) -> Effect | None:
        """The effect of the finding, None where it is worth none."""
        return effect_of(self.before, self.after, listed=self.listed)


@dataclass(frozen=True, slots=True)
class Rejudged:
    """One finding, its fields named as the parameters of the statement that appends it."""

    finding_id: str
    effect: Effect
    policy_id: str
    policy_version: int
    severity: str
    time: int
    source: str
    id: str
    message: str
    stage: str
    verdict: str
    old_bundle: str
    missing_fields: Sequence[str]
    evidence: str
    application_name: str
    actor_organization: str | None
    actor_id: str
    model_provider: str
    model_name: str


def finding(
    new: Bundle,
    policy_id: str,
    event: Event,
    said: Said | None,
    change: Replacement,
) -> Rejudged:
    """Return the finding that a policy of a bundle says something else of an event than was said before.

    `said` is what the bundle's judge records of it, None where that is nothing. A cleared violation for whose time the
    policy has no revision keeps the version that was recorded. Raises ValueError where nothing differs that matters.
    """
    policy, effect = new.policy(policy_id), change.effect
    if policy is None or effect is None:
        raise ValueError(f"{policy_id} says the same of {event.name} as before")
    time, source, event_id = event.key
    revision = policy.revision_at(time)
    version = revision.version if revision else change.old_version
    return Rejudged(
        finding_id=rejudged_id(policy_id, version, (format_time(time), source, event_id), change.replaced, new.hash),
        effect=effect,
        policy_id=policy_id,
        policy_version=version,
        severity=policy.severity,
        time=time,
        source=source,
        id=event_id,
        message=_message(policy, said, version),
        stage=policy.stage,
        verdict=verdict_of(change.after),
        old_bundle=change.old_bundle,
        missing_fields=() if said is None or isinstance(said, Exemption) else said.missing_fields,
        evidence=said.evidence if isinstance(said, Violation) else "",
        application_name=event.application_name,
        actor_organization=event.actor_organization,
        actor_id=event.actor_id,
        model_provider=event.model_provider,
        model_name=event.model_name,
    )


def _message(policy: Policy, said: Said | None, version: int) -> str:
    if isinstance(said, Violation):
        return said.message
    if isinstance(said, Exemption):
        return f"{said.message} (exempted under {said.exception_id})"
    if said is not None:
        return f"{policy.title}: can't be decided by version {version} without {', '.join(said.missing_fields)}"
    return f"{policy.title}: no violation by version {version}"


def append(store: Store, bundle_hash: str, findings: Sequence[Rejudged]) -> None:
    """Append findings, each unless there is one with its id. Raises StoreUnavailable; some may be appended then."""
    for start in range(0, len(findings), _IN_A_STATEMENT):
        some = findings[start : start + _IN_A_STATEMENT]
        parameters: dict[str, Any] = {name: [_value(getattr(one, name)) for one in some] for name in _COLUMNS}
        store.execute(_APPEND, {"bundle": bundle_hash, **parameters})


def _value(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
