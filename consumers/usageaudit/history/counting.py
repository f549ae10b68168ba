"""How many events got which verdict before and after, and the figures that a reviewer reads off that."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from usageaudit.policy.sql.judging import CODES
from usageaudit.verdicts import Exemption, Indeterminate, Violation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

IGNORED = 5
"""The code of what could not be decided by a policy that ignores the unknown, so that nothing is recorded of it."""
Effect = Literal["violation", "cleared", "notice"]
NAMES: Mapping[int, str] = {**{code: verdict for verdict, code in CODES.items()}, IGNORED: "ignored"}
_INDETERMINATE, _EXEMPTED, _VIOLATION = CODES["indeterminate"], CODES["exempted"], CODES["violation"]

_NOTHING_FOUND = (CODES["not_applicable"], CODES["ok"])
CODE_OF: Mapping[type | None, int] = {Violation: _VIOLATION, Exemption: _EXEMPTED, Indeterminate: _INDETERMINATE}
"""The codes of what the judge records."""


def pair_of(before: int, after: int) -> int:
    """Return two codes of verdicts as one number."""
    return 8 * before + after


def codes_of(pair: int) -> tuple[int, int]:
    """Return the codes before and after."""
    return divmod(pair, 8)


def changes(pair: int) -> bool:
    """Tell whether what is recorded of an event differs; whether a policy applies or is satisfied is not recorded."""
    before, after = (code if code in (_INDETERMINATE, _EXEMPTED, _VIOLATION) else 0 for code in codes_of(pair))
    return before != after


def effect_of(before: int, after: int, *, listed: bool = False) -> Effect | None:
    """Return what a rejudged verdict is: a violation, something cleared, or worth a notice; None for no finding.

    Worth a notice is what can no longer be decided, what would be a violation but for an exception, and a violation
    that is one again: it is `listed` already, by the event's row or by an earlier finding, and is counted once.
    """
    if after == _VIOLATION != before:
        return "notice" if listed else "violation"
    if after == _INDETERMINATE != before:
        return "notice"
    if before == _VIOLATION != after:
        return "cleared"
    if after == _EXEMPTED != before:
        return "notice"
    return "cleared" if before in (_INDETERMINATE, _EXEMPTED) and after in _NOTHING_FOUND else None


def verdict_of(code: int) -> str:
    """Return the verdict as findings name it; what a policy ignores is indeterminate."""
    return NAMES[_INDETERMINATE if code == IGNORED else code]


@dataclass(frozen=True, slots=True)
class Figure:
    """A number of a report: its name, what it counts, and whether a pair of codes counts."""

    name: str
    doc: str
    counts: Callable[[int, int], bool]


def _figures_of(code: int, what: str, names: str) -> tuple[Figure, ...]:
    before, after, added, removed, unchanged = names.split()
    return (
        Figure(before, f"{what} before", lambda b, _: b == code),
        Figure(after, f"{what} after", lambda _, a: a == code),
        Figure(added, f"{what} after and not before", lambda b, a: a == code != b),
        Figure(removed, f"{what} before and not after", lambda b, a: b == code != a),
        Figure(unchanged, f"{what} before and after", lambda b, a: a == code == b),
    )


FIGURES: tuple[Figure, ...] = (
    *_figures_of(_VIOLATION, "violations", "violations_before violations_after added removed unchanged"),
    *_figures_of(
        _INDETERMINATE,
        "events that could not be decided",
        "indeterminate_before indeterminate_after now_indeterminate no_longer_indeterminate still_indeterminate",
    ),
    *_figures_of(
        _EXEMPTED,
        "exempted violations",
        "exempted_before exempted_after now_exempted no_longer_exempted still_exempted",
    ),
    Figure("ignored", "events undecided after, by a policy that ignores the unknown", lambda _, a: a == IGNORED),
)
"""A violation that is removed may be one that is now indeterminate or exempted: then it counts there, too."""
_BY_NAME = {figure.name: figure for figure in FIGURES}


@dataclass(slots=True)
class Tally:
    """Numbers of events by pair of codes."""

    pairs: Counter[int] = field(default_factory=Counter)

    def __getitem__(self, figure: str) -> int:
        """Return a figure by its name."""
        counts = _BY_NAME[figure].counts
        return sum(events for pair, events in self.pairs.items() if counts(*codes_of(pair)))

    @property
    def changed(self) -> int:
        """How many events have another verdict recorded after than before."""
        return sum(events for pair, events in self.pairs.items() if changes(pair))

    def figures(self) -> dict[str, int]:
        """Return all figures by name."""
        return {figure.name: self[figure.name] for figure in FIGURES}
