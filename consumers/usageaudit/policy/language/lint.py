"""Doubts about a condition that has no errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from usageaudit.policy.language.diagnostics import Diagnostic
    from usageaudit.policy.language.tree import Node


def doubts(root: Node) -> tuple[Diagnostic, ...]:
    """Return the warnings about a tree."""
    return ()
