"""The table of operators in the documentation; `python -m tests.unit.policy.language.operator_table` writes it anew."""

from __future__ import annotations

from pathlib import Path

from usageaudit.policy.language import OPERATORS, Operator

PAGE = Path(__file__).parents[4] / "docs" / "policy-language.md"
BEGIN, END = "<!-- operators: begin -->\n", "<!-- operators: end -->\n"


def table() -> str:
    """Return a table with a line for each operator and meaning, all its forms in one cell."""
    lines: dict[tuple[str, str], list[Operator]] = {}
    for row in OPERATORS:
        lines.setdefault((row.name, row.doc), []).append(row)
    text = "| operator | meaning |\n|---|---|\n"
    for (_, doc), rows in lines.items():
        forms = "<br>".join(f"`{row.signature}`" for row in rows)
        text += f"| {forms.replace('|', chr(92) + '|')} | {doc} |\n"
    return text


def inserted(page: str) -> str:
    """Return a page with the table between its marks."""
    head, rest = page.split(BEGIN)
    return head + BEGIN + table() + END + rest.split(END)[1]


if __name__ == "__main__":
    PAGE.write_text(inserted(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
