"""Gathers everything that is wrong with a bundle, so that all of it is reported at once."""

from __future__ import annotations

import difflib
from collections import Counter
from heapq import nlargest
from typing import TYPE_CHECKING, NamedTuple

from usageaudit.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from usageaudit.policy.language.diagnostics import Diagnostic
    from usageaudit.policy.yamltree import Place

MAX_SHOWN = 200
"""How many errors a message shows; `diagnostics` has them all."""
MAX_ERRORS = 500
"""How many errors are looked for; a bundle with as many is not read any further."""
MAX_WARNINGS = 1_000
"""How many warnings are kept."""
_CANDIDATES = 200
"""With how many known words a misspelt one is compared at length."""


class Budget(NamedTuple):
    """How much of something a whole bundle may have, so that reading it takes seconds and little memory."""

    limit: int
    what: str
    hint: str


FILES = Budget(5_000, "files", "make several bundles of it")
BYTES = Budget(32 << 20, "bytes", "make several bundles of it")
PARTS = Budget(100, "bundles that use one another", "use fewer packs")
VALUES = Budget(800_000, "values in its files", "make several bundles of it")
OPERANDS = Budget(1_000_000, "operands in its conditions, with sub-conditions put in", "make conditions smaller")
TESTS = Budget(200_000, "tests, each policy of a case counted", "test fewer policies by one case")


class InvalidBundle(BundleError):
    """A bundle with errors. `diagnostics` has all of them, with the warnings found beside them, by file and line."""

    def __init__(self, diagnostics: Iterable[Diagnostic], *, complete: bool = True) -> None:
        self.diagnostics = tuple(sorted(diagnostics, key=lambda d: (d.file, d.line, d.column)))
        self.complete = complete
        """Whether these are all errors; looking for more ended otherwise."""
        errors = [d for d in self.diagnostics if d.severity == "error"]
        head = f"the policies have {self.counted()}:"
        shown = [head, *(d.render() for d in errors[:MAX_SHOWN])]
        if len(errors) > MAX_SHOWN:
            shown.append(f"… and {len(errors) - MAX_SHOWN} more errors")
        super().__init__("\n".join(shown))

    def counted(self) -> str:
        """Return how many errors there are, in words."""
        errors = sum(d.severity == "error" for d in self.diagnostics)
        several = "an error" if errors == 1 else f"{errors:,} errors"
        return several if self.complete else f"{several}, and what follows was not read"


class Report:
    """The errors and warnings found so far, and how much was read."""

    def __init__(self) -> None:
        self.diagnostics: list[Diagnostic] = []
        self._errors = 0
        self._warnings = 0
        self._spent: Counter[Budget] = Counter()
        self.incomplete = False
        """Whether a part could not be read, so that what seems unknown may only be missing for that."""

    def add(self, *diagnostics: Diagnostic) -> None:
        """Keep what was found. Raises InvalidBundle as soon as there are MAX_ERRORS errors."""
        for diagnostic in diagnostics:
            if diagnostic.severity == "warning":
                self._warnings += 1
                if self._warnings > MAX_WARNINGS:
                    continue
            self.diagnostics.append(diagnostic)
            self._errors += diagnostic.severity == "error"
            if self._errors >= MAX_ERRORS:
                raise InvalidBundle(self.diagnostics, complete=False)

    @property
    def errors(self) -> int:
        """How many errors there are."""
        return self._errors

    def spend(self, budget: Budget, amount: int, place: Callable[[], Place]) -> None:
        """Count something that the bundle has. Raises InvalidBundle at once where that is more than it may have."""
        self._spent[budget] += amount
        if self._spent[budget] > budget.limit:
            message = f"the bundle has more than {budget.limit:,} {budget.what}"
            raise InvalidBundle([*self.diagnostics, place().diagnostic(message, budget.hint)], complete=False)

    def error(self, place: Place, message: str, hint: str = "") -> None:
        """Keep an error at a place."""
        self.add(place.diagnostic(message, hint))

    def warning(self, place: Place, message: str, hint: str = "") -> None:
        """Keep a warning at a place."""
        self.add(place.diagnostic(message, hint, warning=True))

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """The warnings, by file and line."""
        found = [d for d in self.diagnostics if d.severity == "warning"]
        return tuple(sorted(found, key=lambda d: (d.file, d.line, d.column)))

    def raise_errors(self) -> None:
        """Raise InvalidBundle where there is an error."""
        if any(d.severity == "error" for d in self.diagnostics):
            raise InvalidBundle(self.diagnostics)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint that names the known word nearest to a misspelt one, or an empty string."""
    name, words = name[:200], sorted(known)
    if len(words) > _CANDIDATES:
        # A slip leaves most of what comes before and after it.
        words = nlargest(_CANDIDATES, words, key=lambda word: _same(name, word) + _same(name[::-1], word[::-1]))
    near = difflib.get_close_matches(name, words, n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else ""


def _same(one: str, other: str) -> int:
    """Return how many characters two words begin with alike."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
