"""What a windowed policy counts, over which time, and for whom: the part of a policy that sees many events at once.

The kinds are those of Sigma's correlation rules (https://sigmahq.io/sigma-specification/ "Sigma Correlations"), with
`value_sum`, `absence` and `first_seen` beside them. docs/windows.md says what each means, with a picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from usageaudit.policy.language import Condition, Path

WindowKind = Literal["event_count", "value_count", "value_sum", "temporal_ordered", "absence", "first_seen"]
KINDS: tuple[WindowKind, ...] = get_args(WindowKind)
MEASURED: frozenset[WindowKind] = frozenset(("event_count", "value_count", "value_sum"))
"""The kinds that have a value, and a condition on it."""
LATENESS = 10_000_000
"""How long events of a time are waited for by default, in microseconds."""
Unit = Literal["day", "month"]
UNITS: tuple[Unit, ...] = get_args(Unit)

VALUE: Path = ("value",)
WINDOW_START: Path = ("window", "start")
WINDOW_END: Path = ("window", "end")


@dataclass(frozen=True, slots=True)
class Calendar:
    """Days or months as they begin in a time zone."""

    unit: Unit
    zone: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Events that show that their source is alive: one at least in `every` stretch of so many microseconds."""

    when: Condition
    every: int


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """One window for each group: the events that the policy's `when` is true for, by the values of `group_by`.

    `over` is how long a sliding window is in microseconds, or the calendar's periods; None, of `first_seen` alone, is
    all of time. `field` is what `value_count` and `value_sum` read, `steps` are those of `temporal_ordered`, `expect`
    and `heartbeat` belong to `absence`.
    """

    kind: WindowKind
    over: int | Calendar | None
    group_by: tuple[Path, ...]
    field: Path | None = None
    steps: tuple[Condition, ...] = ()
    expect: Condition | None = None
    heartbeat: Heartbeat | None = None

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The conditions on events that the window itself has."""
        of_absence = (self.expect, self.heartbeat.when if self.heartbeat is not None else None)
        return (*self.steps, *(one for one in of_absence if one is not None))

    @property
    def length(self) -> int:
        """The length of a sliding window in microseconds, 0 where it is none."""
        return self.over if isinstance(self.over, int) else 0
