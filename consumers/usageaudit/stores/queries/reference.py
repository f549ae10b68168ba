"""The reference of the named queries, made from the queries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usageaudit.stores.queries import named_queries

if TYPE_CHECKING:
    from usageaudit.stores.queries import NamedQuery, Parameter


def queries_reference() -> str:
    """Return the reference as Markdown: each query, what it answers, and its parameters."""
    return "\n\n".join(_query(query) for query in named_queries().values()) + "\n"


def _query(query: NamedQuery) -> str:
    parameters = "\n".join(_parameter(one) for one in query.parameters)
    return f"### {query.name}\n\n{query.sentence}" + (f"\n\n{parameters}" if parameters else "")


def _parameter(parameter: Parameter) -> str:
    default = "must be given" if parameter.default is None else f"`{parameter.default}` by default"
    return f"- `{parameter.name}` ({parameter.type}; {default}): {parameter.sentence}"
