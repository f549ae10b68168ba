"""The tables of docs/cel.md; `python -m tests.conformance.cel.page` writes them anew."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from tests.conformance.cel.cases import conformance
from tests.conformance.cel.deviations import DEVIATIONS, HERE, REFUSED, Deviation
from tests.conformance.cel.package import CEL_SPEC
from tests.conformance.cel.reasons import REASONS, reasons

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tests.conformance.cel.cases import Case, Value
    from tests.conformance.cel.deviations import Refusal

PAGE = Path(__file__).parents[3] / "docs" / "cel.md"


def tables(cases: Sequence[Case]) -> Mapping[str, str]:
    """Return the generated parts of the page by their names."""
    return {"figures": _figures(cases), "left out": _left_out(cases), "deviations": _deviations(cases)}


def inserted(page: str, cases: Sequence[Case]) -> str:
    """Return the page with the parts between their marks."""
    for name, text in tables(cases).items():
        begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
        head, rest = page.split(begin)
        page = head + begin + text + end + rest.split(end)[1]
    return page


def _figures(cases: Sequence[Case]) -> str:
    left_out = len([case for case in cases if reasons(case)])
    here = len(HERE)
    return _table(
        ("cases", "number"),
        [
            ("of the data", f"{len(cases):,}"),
            ("that pass", f"{len(cases) - left_out - here:,}"),
            ("that give something else by intent", f"{here:,}"),
            ("that need something that is left out", f"{left_out:,}"),
        ],
    )


def _left_out(cases: Sequence[Case]) -> str:
    counts = Counter(found[0] for case in cases if (found := reasons(case)))
    rows = [(reason.what, f"{counts[reason]:,}", reason.why) for reason in REASONS]
    return _table(("left out", "cases", "why"), rows)


def _deviations(cases: Sequence[Case]) -> str:
    by_name = {case.name: case for case in cases}
    rows = dict.fromkeys(row for each in DEVIATIONS for row in _rows(each, by_name))
    return _table(("because", "case", "CEL", "here"), rows)


def _rows(deviation: Deviation, by_name: Mapping[str, Case]) -> Iterable[tuple[str, ...]]:
    for name, here in deviation.cases.items():
        case = by_name[name]
        cel = "an error" if case.expected.error else _shown(case.expected.value)
        within = f" in the container `{case.container}`" if case.container else ""
        yield deviation.what, f"`{' '.join(case.text.split())}`{within}", cel, _shown(here)


def _shown(value: Value | Refusal) -> str:
    if value is None:
        return "unknown"
    if value is REFUSED:
        return "refused"
    if isinstance(value, bool):
        return str(value).lower()
    return f"`{value}`" if isinstance(value, float) else f"`{value!r}`"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(inserted(PAGE.read_text(encoding="utf-8"), conformance(CEL_SPEC.install())), encoding="utf-8")
