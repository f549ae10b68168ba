"""Gathers everything that is wrong with a bundle, so that all of it is reported at once."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from usageaudit.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from usageaudit.policy.language.diagnostics import Diagnostic
    from usageaudit.policy.yamltree import Place

MAX_SHOWN = 200
"""How many errors a message shows; `diagnostics` has them all."""


class InvalidBundle(BundleError):
    """A bundle with errors. `diagnostics` has all of them, with the warnings found beside them, by file and line."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(sorted(diagnostics, key=lambda d: (d.file, d.line, d.column)))
        errors = [d for d in self.diagnostics if d.severity == "error"]
        head = "the policies have an error:" if len(errors) == 1 else f"the policies have {len(errors)} errors:"
        shown = [head, *(d.render() for d in errors[:MAX_SHOWN])]
        if len(errors) > MAX_SHOWN:
            shown.append(f"… and {len(errors) - MAX_SHOWN} more errors")
        super().__init__("\n".join(shown))


class Report:
    """The errors and warnings found so far."""

    def __init__(self) -> None:
        self.diagnostics: list[Diagnostic] = []
        self.incomplete = False
        """Whether a part could not be read, so that what seems unknown may only be missing for that."""

    def add(self, *diagnostics: Diagnostic) -> None:
        """Keep what was found."""
        self.diagnostics.extend(diagnostics)

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
    near = difflib.get_close_matches(name[:200], sorted(known), n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else ""
