"""Makes a disagreement small enough to read: less of the condition, then less of the event, as long as it is one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from usageaudit.errors import InvalidEvent
from usageaudit.policy import InvalidBundle
from usageaudit.policy.language import Origin, parse, unparse
from usageaudit.policy.language.syntax import Call, Has, Index, ListLiteral, Macro, Select

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.differential.occurrences import Sample
    from usageaudit.policy.language.syntax import Syntax

MAX_TRIES = 400


@dataclass(frozen=True, slots=True)
class Case:
    """A condition on an event."""

    condition: str
    sample: Sample


def reduced(case: Case, disagrees: Callable[[Case], bool]) -> Case:
    """Return a smaller case on which the answers still differ; `disagrees` may raise for what is invalid."""
    tries = MAX_TRIES
    improved = True
    while improved:
        improved = False
        for smaller in _smaller(case):
            tries -= 1
            if tries < 0:
                return case
            if _still(smaller, disagrees):
                case, improved = smaller, True
                break
    return case


def _still(case: Case, disagrees: Callable[[Case], bool]) -> bool:
    try:
        return disagrees(case)
    except (InvalidBundle, InvalidEvent):
        return False


def _smaller(case: Case) -> Iterator[Case]:
    tree = parse(case.condition, origin=Origin("reduced")).tree
    texts = {text for one in _simpler(tree) if len(text := unparse(one)) < len(case.condition)}
    for text in sorted(texts, key=len):
        yield replace(case, condition=text)
    for data in _without(case.sample.data):
        yield replace(case, sample=replace(case.sample, data=data))


def _simpler(tree: Syntax) -> Iterator[Syntax]:
    """Yield trees with one part replaced by something below it, or left out."""
    below = _below(tree)
    yield from below
    if isinstance(tree, Call) and tree.name in ("&&", "||") and len(below) > 2:
        yield from (replace(tree, arguments=(*below[:at], *below[at + 1 :])) for at in range(len(below)))
    if isinstance(tree, ListLiteral):
        yield from (replace(tree, items=(*below[:at], *below[at + 1 :])) for at in range(len(below)))
    for at, part in enumerate(below):
        yield from (_with(tree, at, simpler) for simpler in _simpler(part))


def _below(tree: Syntax) -> tuple[Syntax, ...]:
    match tree:
        case Call(arguments=arguments):
            return arguments
        case ListLiteral(items=items):
            return items
        case Index(operand=operand, key=key):
            return (operand, key)
        case Macro(operand=operand, predicate=predicate):
            return (operand, predicate)
        case Has(operand=operand) | Select(operand=operand):
            return (operand,)
        case _:
            return ()


def _with(tree: Syntax, at: int, part: Syntax) -> Syntax:
    """Return a tree with another part at a place of those that are below it."""
    match tree:
        case Call(arguments=parts):
            return replace(tree, arguments=(*parts[:at], part, *parts[at + 1 :]))
        case ListLiteral(items=parts):
            return replace(tree, items=(*parts[:at], part, *parts[at + 1 :]))
        case Index():
            return replace(tree, key=part) if at else replace(tree, operand=part)
        case Macro():
            return replace(tree, predicate=part) if at else replace(tree, operand=part)
        case Has() | Select():
            return replace(tree, operand=part)
        case _:
            return tree


def _without(data: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the data with one entry less, of it or of an object in it."""
    for name, value in data.items():
        yield {other: found for other, found in data.items() if other != name}
        if isinstance(value, dict) and name != "labels":
            yield from ({**data, name: less} for less in _without(value))
        if isinstance(value, list):
            yield from ({**data, name: value[:at] + value[at + 1 :]} for at in range(len(value)))
