"""Writes the code of what the missing fields of an undecided condition depend on, so that they are found out once.

Which fields are missing follows from which tests of the condition are true, false or unknown, and from which fields of
the unknown ones are there. Services that leave the same things out give the same key, whatever else their events say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from usageaudit.policy.language import BOOL, Call, Const, Field, Has, Named, Quantified, children
from usageaudit.policy.language.tree import walk
from usageaudit.policy.python import lower

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from usageaudit.policy.language import Node
    from usageaudit.policy.python import Constants

_LOGIC = ("&&", "||", "!", "?:")


def key_of(conditions: Iterable[Node], constants: Constants) -> tuple[str, frozenset[str]]:
    """Return the expression of the key, over the local names that are also returned.

    It gives None where a list that is there has elements that leave something open: then nothing can be remembered.
    """
    parts: dict[str, None] = {}
    names: set[str] = set()
    never: dict[str, None] = {}
    for atom in (atom for condition in conditions for atom in _atoms(condition)):
        code = lower(atom, constants)
        names |= code.names
        parts[code.value] = None
        if code.unknown:
            parts.update(dict.fromkeys(f"{lower(leaf, constants).value} is None" for leaf in _leaves(atom)))
            never.update(dict.fromkeys(f"({code.value} is None{more})" for more in _depending(atom, constants)))
    key = f"({', '.join(parts)},)"
    return (f"None if {' or '.join(never)} else {key}" if never else key), frozenset(names)


def _atoms(node: Node) -> Iterator[Node]:
    """Yield the largest parts of a condition that are not made of conditions."""
    if isinstance(node, Named):
        yield from _atoms(node.body)
    elif isinstance(node, Call) and node.type == BOOL and node.operator.name in _LOGIC:
        for argument in node.arguments:
            yield from _atoms(argument)
    else:
        yield node


def _leaves(node: Node) -> Iterator[Node]:
    """Yield what a missing field can be: fields, and entries of maps."""
    if isinstance(node, Field) or (isinstance(node, Call) and node.operator.name == "[]"):
        yield node
    elif not isinstance(node, Quantified | Has):
        for child in children(node):
            yield from _leaves(child)
    elif isinstance(node, Quantified):
        yield from _leaves(node.operand)
        if _same_for_all(node):
            yield from _leaves(node.predicate)


def _same_for_all(node: Quantified) -> bool:
    """Whether a macro over constants is left open by which of its fields are missing alone, the same for each element.

    Its condition is then one test, which is unknown as soon as one of its operands is.
    """
    within = (one for part in (node.operand, node.predicate) for one in walk(part))
    joined = any(
        isinstance(one, Quantified | Has | Named) or (isinstance(one, Call) and one.operator.name in _LOGIC)
        for one in within
    )
    return isinstance(node.operand, Const) and not joined


def _depending(atom: Node, constants: Constants) -> Iterator[str]:
    """Yield code for when an unknown atom's missing fields depend on more than on which fields are there."""
    if isinstance(atom, Quantified) and _same_for_all(atom):
        return
    if isinstance(atom, Quantified):
        yield f" and {lower(atom.operand, constants).value} is not None"
        # Its condition is asked only where that list is there; what it depends on goes by elements, which have no name.
        yield from _depending(atom.operand, constants)
        return
    if isinstance(atom, Call) and atom.operator.name == "?:":
        yield ""
    for child in children(atom):
        yield from _depending(child, constants)
