"""A bundle and the policies in it, read and checked: what the judge, the explanations and the documentation work on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from usageaudit.policy.language import Condition, Diagnostic, Path
    from usageaudit.policy.message import Message
    from usageaudit.policy.windows.model import Window
    from usageaudit.verdicts import Severity, Stage, Verdict

OnUnknown = Literal["record", "violate", "ignore"]
ON_UNKNOWN: tuple[OnUnknown, ...] = ("record", "violate", "ignore")
STAGES: tuple[Stage, ...] = ("draft", "shadow", "enforce", "retired")
JUDGED: frozenset[Stage] = frozenset(("shadow", "enforce"))
"""The stages whose policies are judged on the stream."""
ListValues = tuple[str | int | float | bool, ...]


@dataclass(frozen=True, slots=True)
class Basis:
    """What a policy rests on: a document, a clause of it, and the day on which it was read so, as text."""

    document: str
    clause: str
    as_of: str


@dataclass(frozen=True, slots=True)
class Revision:
    """What a policy says for events whose time lies in [start, end), in microseconds; None is without bound.

    `condition` is that on the value of a window, where the policy has one that measures.
    """

    version: int
    start: int | None
    end: int | None
    when: Condition
    condition: Condition | None = None

    def in_force(self, time: int) -> bool:
        """Tell whether an event of that time is judged by this revision."""
        return (self.start is None or self.start <= time) and (self.end is None or time < self.end)


@dataclass(frozen=True, slots=True)
class PolicyException:
    """A named exception, in force for events before `expires`, in microseconds; `file` and `line` say where."""

    id: str
    when: Condition
    approved_by: str
    reason: str
    expires: int
    file: str = field(default="", compare=False)
    line: int = field(default=1, compare=False)


@dataclass(frozen=True, slots=True)
class Approval:
    """Who approved a policy, why and when, in microseconds; `digest` says which meaning of it."""

    policy_id: str
    version: int
    digest: str
    approved_by: str
    reason: str
    date: int


@dataclass(frozen=True, slots=True)
class Alert:
    """How alerts of a policy are gathered: one for equal values of `dedup_by` within `window`, in microseconds."""

    dedup_by: tuple[Path, ...]
    window: int


@dataclass(frozen=True, slots=True)
class PolicyTest:
    """An event with the verdict that a policy must give; `missing` and `exception` are None where not stated.

    `data` is the event's data as JSON, times are microseconds. `registry` is what the registry is to say of the event's
    application, None where that is what the bundle's says.
    """

    name: str
    expect: Verdict
    data: bytes = field(repr=False)
    time: int
    record_time: int | None
    source: str
    event_id: str
    missing: tuple[str, ...] | None
    exception: str | None
    file: str
    line: int
    registry: RegistryEntry | None = None


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """An event of the stream of a test: its data as JSON, its time in microseconds, its source and its id."""

    data: bytes = field(repr=False)
    time: int
    source: str
    event_id: str


@dataclass(frozen=True, slots=True)
class ExpectedFinding:
    """What a windowed policy must find: only what is stated is compared.

    `group` are values of fields of group_by by name, `at` is the id of the event at whose time the window crosses,
    `window_start` and `window_end` are its bounds in microseconds.
    """

    group: Mapping[str, str]
    at: str | None
    window_start: int | None
    window_end: int | None
    value: float | None
    effect: Literal["violation", "notice"]


@dataclass(frozen=True, slots=True)
class WindowTest:
    """A stream of events with all that a windowed policy must find in it.

    `registry` is what the registry says of some applications, in place of what the bundle's does.
    """

    name: str
    events: tuple[StreamEvent, ...] = field(repr=False)
    expect: tuple[ExpectedFinding, ...]
    registry: Mapping[str, RegistryEntry]
    file: str
    line: int


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """One clause; `id` is `pack/clause`. `lets` are its named sub-conditions, `file` is where it stands.

    One with a `window` is judged over many events, behind the stream; `when` says which of them count, and its tests
    are `window_tests`.
    """

    id: str
    title: str
    description: str
    basis: tuple[Basis, ...]
    severity: Severity
    stage: Stage
    applies: Condition | None
    lets: Mapping[str, Condition]
    revisions: tuple[Revision, ...]
    on_unknown: OnUnknown
    message: Message
    evidence: tuple[Path, ...]
    exceptions: tuple[PolicyException, ...]
    alert: Alert | None
    tests: tuple[PolicyTest, ...] = field(repr=False)
    file: str
    window: Window | None = None
    window_tests: tuple[WindowTest, ...] = field(default=(), repr=False)

    def revision_at(self, time: int) -> Revision | None:
        """Return the revision that judges events of a time, None where none was in force."""
        return next((revision for revision in self.revisions if revision.in_force(time)), None)


@dataclass(frozen=True, slots=True)
class RegistryEntry:
    """What the registry says about an application; None and absent lists are unknown to conditions."""

    owner: str | None = None
    team: str | None = None
    sector: str | None = None
    jurisdiction: str | None = None
    approved_use_cases: tuple[str, ...] | None = None
    data_classes: tuple[str, ...] | None = None


NOT_REGISTERED = RegistryEntry()


@dataclass(frozen=True, slots=True)
class Part:
    """One folder of a bundle as it was read: its name, the names of those it uses, and its files' texts by path.

    `require_approvals` says that its policies, and those that it uses, are enforced only where they were approved.
    """

    name: str
    uses: tuple[str, ...]
    files: Mapping[str, str] = field(repr=False)
    require_approvals: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """Policies, lists and registry, checked as a whole.

    `policies` judge each event by itself, `windowed` those of many. `hash` is the SHA-256, in hex, of everything in it.
    `sources` are the parts that were asked for, `parts` also those that they use. `commit` is the git commit of the
    folder where there is one. `warnings` are no reason to refuse it.
    """

    name: str
    hash: str
    policies: tuple[Policy, ...] = field(repr=False)
    lists: Mapping[str, ListValues] = field(repr=False)
    registry: Mapping[str, RegistryEntry] = field(repr=False)
    sources: tuple[str, ...]
    parts: tuple[Part, ...] = field(repr=False)
    commit: str | None = None
    warnings: tuple[Diagnostic, ...] = field(default=(), repr=False)
    approvals: tuple[Approval, ...] = field(default=(), repr=False)
    windowed: tuple[Policy, ...] = field(default=(), repr=False)

    @property
    def all_policies(self) -> tuple[Policy, ...]:
        """The policies of both kinds, by id."""
        return tuple(sorted((*self.policies, *self.windowed), key=lambda policy: policy.id))

    def policy(self, policy_id: str) -> Policy | None:
        """Return a policy of either kind by its id."""
        return next((policy for policy in (*self.policies, *self.windowed) if policy.id == policy_id), None)

    def archive(self) -> bytes:
        """Return all files of the bundle as JSON; `bundle_from_archive` makes the same bundle of it."""
        from usageaudit.policy.archive import archive

        return archive(self.sources, self.parts)
