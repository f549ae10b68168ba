"""The examples below the help of a command."""

from __future__ import annotations


def examples(*lines: str) -> str:
    """Return the epilog of a command's help that shows command lines to type, one each line."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
