"""What a comparison found: a change of policies, what it does to each, and examples of events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from usageaudit.history.counting import NAMES, codes_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from usageaudit.history.comparing import Dimension
    from usageaudit.history.counting import Tally
    from usageaudit.verdicts import Severity, Stage


@dataclass(frozen=True, slots=True)
class Example:
    """An event whose verdict changes, and why it comes out so after; the codes before and after are one `pair`."""

    pair: int
    source: str
    event_id: str
    time: int
    organization: str | None
    application: str
    model: str
    missing_fields: tuple[str, ...] = ()
    deciding: tuple[str, ...] = ()

    @property
    def before(self) -> str:
        """The verdict before."""
        return NAMES[codes_of(self.pair)[0]]

    @property
    def after(self) -> str:
        """The verdict after."""
        return NAMES[codes_of(self.pair)[1]]


@dataclass(frozen=True, slots=True)
class WindowCoverage:
    """What a windowed policy could know: events it is about, that it counted, and that nobody can say of.

    `notices` are waits of an absence whose heartbeat stopped; `pairs` are the undecided events by their codes
    before and after.
    """

    about: int
    counted: int
    undecided: int
    notices: int
    pairs: Mapping[int, int] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """What becomes of one policy: events by verdict in all, by dimension and value, examples of what changes.

    `title`, `severity` and `stage` are those after, of a policy that is gone those before; `versions` are those of the
    revisions that judge after. `unsaid` are fields that the policy reads, with how many of the events that are now
    indeterminate did not say them. A policy with a `window` has findings in place of violations.
    """

    policy_id: str
    title: str
    severity: Severity
    stage: Stage
    versions: tuple[int, ...]
    all: Tally
    parts: Mapping[Dimension, Mapping[str | None, Tally]]
    examples: Sequence[Example] = ()
    unsaid: Mapping[str, int] = field(default_factory=dict)
    window: WindowCoverage | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A comparison of two judgements of the same events: what they are called, how many events, and each policy."""

    before: str
    after: str
    events: int
    start: int | None
    end: int | None
    dimensions: tuple[Dimension, ...]
    policies: tuple[PolicyChange, ...] = field(default=())
