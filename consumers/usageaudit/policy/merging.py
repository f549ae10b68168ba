"""Brings the lists and the registries of a bundle's parts together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usageaudit.policy.fields import Fields, as_number, number_of, texts_of
from usageaudit.policy.folders import LISTS, REGISTRY
from usageaudit.policy.model import RegistryEntry
from usageaudit.policy.shapes import APPLICATION, WORD
from usageaudit.policy.yamltree import Mapping, Scalar, Sequence

if TYPE_CHECKING:
    from collections.abc import Iterable

    from usageaudit.policy.fields import Number
    from usageaudit.policy.gathering import Loaded
    from usageaudit.policy.model import ListValues
    from usageaudit.policy.report import Report
    from usageaudit.policy.yamltree import Node


def merged_lists(found: dict[str, Loaded], report: Report) -> dict[str, ListValues]:
    """Return the lists of all parts: one that a part defines replaces those of the same name in what it uses."""
    lists: dict[str, ListValues] = {}
    owners: dict[str, str] = {}
    for name, loaded in found.items():
        tree = loaded.trees.get(LISTS)
        if tree is None:
            continue
        if not isinstance(tree, Mapping):
            report.error(tree.place, f"{LISTS} is a mapping of names to lists")
            continue
        for key, value in tree.entries:
            values = _list_values(key, value, report)
            owner = owners.get(key.text)
            if owner and lists[key.text] != values and owner not in _used_by(name, found):
                hint = f"let one bundle use both, and define lists.{key.text[:60]} there"
                report.error(key.place, f"lists.{key.text[:60]} is defined differently by {owner}", hint)
            lists[key.text], owners[key.text] = values, name
    return dict(sorted(lists.items()))


def _used_by(name: str, found: dict[str, Loaded]) -> set[str]:
    """Return the names of all parts that a part uses, directly or not."""
    used: set[str] = set()
    open_ = [*found[name].part.uses]
    while open_:
        if (one := open_.pop()) not in used:
            used.add(one)
            open_.extend(found[one].part.uses)
    return used


def _list_values(key: Scalar, node: Node, report: Report) -> ListValues:
    if not WORD.fullmatch(key.text):
        report.error(
            key.place, f"{key.text[:60]} is no name of a list", "letters, digits and _, so that lists.NAME works"
        )
    if not isinstance(node, Sequence):
        report.error(node.place, f"lists.{key.text[:60]} is a list of texts or of numbers")
        return ()
    name = f"lists.{key.text[:60]}"
    if not _of_numbers(node.items):
        return tuple(scalar.text for scalar in texts_of(node.items, name, report))
    values = tuple(value for value in (_number(item, name, report) for item in node.items) if value is not None)
    return tuple(map(float, values)) if any(isinstance(value, float) for value in values) else values


def _of_numbers(items: tuple[Node, ...]) -> bool:
    """Whether a list is one of numbers: as its first entry is one, or is meant as one and stands beside others."""
    numbers = [isinstance(item, Scalar) and item.tag in ("int", "float") for item in items]
    return any(numbers) and (numbers[0] or bool(as_number(items[0])))


def _number(item: Node, name: str, report: Report) -> Number | None:
    """Return an entry of a list of numbers; None, and reported, for one that is no number."""
    if isinstance(item, Scalar) and item.tag not in ("int", "float"):
        meant = as_number(item)
        hint = f"a number is written {meant}" if meant else "put all entries in quotes for a list of texts"
        read = "is a text to YAML" if meant else "is none"
        report.error(item.place, f"{name} is a list of numbers, and {item.text[:60] or 'nothing'} {read}", hint)
        return None
    return number_of(item, f"an entry of {name}", report)


def merged_registry(parts: Iterable[Loaded], report: Report) -> dict[str, RegistryEntry]:
    """Return the applications of all parts; one may be described by one part only."""
    registry: dict[str, RegistryEntry] = {}
    for loaded in parts:
        tree = loaded.trees.get(REGISTRY)
        if tree is None:
            continue
        if not isinstance(tree, Mapping):
            report.error(tree.place, f"{REGISTRY} is a mapping of applications to what is known of them")
            continue
        for key, value in tree.entries:
            if key.text in registry:
                report.error(key.place, f"application {key.text[:100]} is also in the registry of another part")
            registry[key.text] = registry_entry(value, report)
    return dict(sorted(registry.items()))


def registry_entry(node: Node, report: Report) -> RegistryEntry:
    """Return what is said of an application; what is wrong with it is reported."""
    fields = Fields(node, "an application", APPLICATION, report)

    def texts(name: str) -> tuple[str, ...] | None:
        found = tuple(scalar.text for scalar in fields.texts(name))
        return found if fields.node_of(name) is not None else None

    return RegistryEntry(
        owner=fields.text("owner") or None,
        team=fields.text("team") or None,
        sector=fields.text("sector") or None,
        jurisdiction=fields.text("jurisdiction") or None,
        approved_use_cases=texts("approved_use_cases"),
        data_classes=texts("data_classes"),
    )
