"""Makes a function of one condition: for tests of policies and for explaining; a stream is judged by fused code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

from usageaudit.policy.python.constants import Constants, execute
from usageaudit.policy.python.lowering import lower

if TYPE_CHECKING:
    from usageaudit.policy.language.tree import Condition, Node

Values = Mapping[str, object]
"""Values of fields by their local names; a name that is missing is unknown, as is None."""


def compile_condition(condition: Condition) -> Callable[[Values], bool | None]:
    """Return a function from the values of fields to True, False or None."""
    return cast("Callable[[Values], bool | None]", compile_node(condition.root, Constants()))


def compile_node(node: Node, constants: Constants) -> Callable[[Values], object]:
    """Return a function from the values of fields, and of elements around the node, to the value of a node."""
    code = lower(node, constants)
    reads = "".join(f"    {name} = get({name!r})\n" for name in sorted(code.names))
    execute(f"def evaluate(values):\n    get = values.get\n{reads}    return {code.value}\n", constants.namespace)
    return cast("Callable[[Values], object]", constants.namespace.pop("evaluate"))
