"""What generated code refers to by name: constants, regular expressions, time zones and helper functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usageaudit.policy.python.runtime import OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Iterable


class Constants:
    """The namespace that generated code is run in; equal constants share a name.

    Names that begin with `op_` are operators' functions, `c_` constants, `f_` parts of conditions. Generated code
    beside them uses `v_` for fields, `e_` for elements and `t_` for temporary values.
    """

    def __init__(self) -> None:
        self.namespace: dict[str, object] = dict(OPERATIONS)
        self._names: dict[tuple[type, object], str] = {}
        self._functions: dict[str, str] = {}

    def name(self, value: object) -> str:
        """Return the name of a hashable constant."""
        key = (type(value), value)
        if key not in self._names:
            name = f"c_{len(self._names)}"
            self._names[key] = name
            self.namespace[name] = value
        return self._names[key]

    def call(self, expression: str, parameters: Iterable[str]) -> str:
        """Return a call of a function that returns an expression over local names, making it where it is new."""
        listed = ", ".join(sorted(parameters))
        code = f"({listed}):\n    return {expression}\n"
        if code not in self._functions:
            name = f"f_{len(self._functions)}"
            self._functions[code] = name
            execute(f"def {name}{code}", self.namespace)
        return f"{self._functions[code]}({listed})"


def execute(source: str, namespace: dict[str, object]) -> None:
    """Run generated source in a namespace.

    The source holds no text of an author, except as literals that repr() wrote.
    """
    exec(compile(source, "<policy>", "exec"), namespace)  # noqa: S102
