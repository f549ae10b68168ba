"""msgspec structs made from the event's dataclasses: the fast way to decode one.

Two sets are made. The strict one refuses a field that the definition does not know, which lets the common case skip
looking for unknown fields; the lenient one passes over them.
"""

from __future__ import annotations

import dataclasses
import types
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec


def struct_of(owner: type[Any], *, strict: bool, made: dict[type[Any], type[msgspec.Struct]] | None = None) -> Any:
    """Return a struct type with the fields, bounds and defaults of a dataclass, and of the dataclasses inside it."""
    made = {} if made is None else made
    if owner not in made:
        hints = get_type_hints(owner, include_extras=True)
        fields = [_field(f, _hint(hints[f.name], strict=strict, made=made)) for f in dataclasses.fields(owner)]
        made[owner] = msgspec.defstruct(
            owner.__name__, fields, kw_only=True, gc=False, forbid_unknown_fields=strict, omit_defaults=True
        )
    return made[owner]


def _field(field: dataclasses.Field[Any], hint: Any) -> Any:
    return (field.name, hint) if field.default is dataclasses.MISSING else (field.name, hint, field.default)


def _hint(hint: Any, *, strict: bool, made: dict[type[Any], type[msgspec.Struct]]) -> Any:
    """Replace dataclasses by their structs and drop the marks that msgspec does not know."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return struct_of(hint, strict=strict, made=made)
    arguments = tuple(_hint(a, strict=strict, made=made) for a in get_args(hint) if not _is_mark(a))
    origin = get_origin(hint)
    if origin is Annotated:
        marks = [mark for mark in get_args(hint)[1:] if isinstance(mark, msgspec.Meta)]
        return Annotated[(arguments[0], *marks)] if marks else arguments[0]
    if origin in (Union, types.UnionType):
        return Union[arguments]  # noqa: UP007
    return list[arguments[0]] if origin is list else hint  # type: ignore[valid-type]


def _is_mark(argument: Any) -> bool:
    return not (isinstance(argument, type) or get_origin(argument) is not None)
