"""What differs between two bundles in what they mean; differences in the text alone are none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from usageaudit.policy.meaning import ORDER, meanings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usageaudit.policy.meaning import Meaning, Part
    from usageaudit.policy.model import Bundle

Change = Literal["added", "removed", "changed"]
WHOLE = "policy"
"""The part that stands for a policy that only one of the bundles has."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One part of a policy that means something else.

    `part` is named as in a policy's file. `old` and `new` are what it said and says, None where it is not there; of a
    list they are the entries that were removed and added, of an application in the registry the fields that differ.
    """

    policy_id: str
    change: Change
    part: str
    old: Any
    new: Any


def differences(old: Bundle, new: Bundle) -> Iterator[Difference]:
    """Yield what differs from one bundle to another, by policy and part."""
    before, after = meanings(old), meanings(new)
    for policy_id in sorted(before.keys() | after.keys()):
        was, now = before.get(policy_id), after.get(policy_id)
        if was is not None and now is not None:
            yield from _changed(was, now)
        else:
            yield _difference(policy_id, WHOLE, _summary(was), _summary(now))


def _summary(meaning: Meaning | None) -> str | None:
    return None if meaning is None else f"version {meaning.version}, {meaning.stage}"


def _changed(was: Meaning, now: Meaning) -> Iterator[Difference]:
    for name in changed_parts(was, now):
        old, new = was.parts.get(name), now.parts.get(name)
        if old is not None and new is not None and name.startswith("lists."):
            yield _entries(was.policy_id, name, old.plain, new.plain)
        elif name == ORDER:
            yield from _order(was.policy_id, old.plain if old else [], new.plain if new else [])
        elif old is not None and new is not None and isinstance(old.shown, dict) and isinstance(new.shown, dict):
            yield _fields(was.policy_id, name, old.shown, new.shown)
        else:
            shown = [None if one is None else one.shown for one in (old, new)]
            if shown != [None, None]:  # such as the end of a new revision that is open
                yield _difference(was.policy_id, name, *shown)


def changed_parts(was: Meaning, now: Meaning) -> list[str]:
    """Return the names of the parts that mean something else, in the order of a policy's file.

    A condition that reads as before, and means something else because of a list or a sub-condition that it names, is
    not listed: the list or the sub-condition is.
    """
    found: set[str] = set()
    for name in was.parts.keys() | now.parts.keys():
        old, new = was.parts.get(name), now.parts.get(name)
        one = old or new
        if one is not None and not one.explains and (old is None or new is None or old.form != new.form):
            found |= _causes(name, was, now)
    order = list(dict.fromkeys((*now.parts, *was.parts)))
    return sorted(found, key=order.index)


def _causes(name: str, was: Meaning, now: Meaning) -> set[str]:
    """Return what makes a part differ: itself where it is written differently, and what it names."""
    old, new = was.parts.get(name), now.parts.get(name)
    if old is None or new is None:
        return {name}
    read = (one for one in old.reads & new.reads if _differs(was.parts[one], now.parts[one]))
    causes = {cause for one in read for cause in _causes(one, was, now)}
    return causes | {name} if not causes or old.named != new.named else causes


def _differs(old: Part, new: Part) -> bool:
    return old.form != new.form


def _difference(policy_id: str, part: str, old: Any, new: Any) -> Difference:
    change: Change = "added" if old is None else "removed" if new is None else "changed"
    return Difference(policy_id, change, part, old, new)


def _entries(policy_id: str, part: str, old: list[Any], new: list[Any]) -> Difference:
    removed, added = [one for one in old if one not in new], [one for one in new if one not in old]
    if not removed and not added:  # what changed is how often an entry is there, or its type
        return Difference(policy_id, "changed", part, old, new)
    change: Change = "added" if not removed else "removed" if not added else "changed"
    return Difference(policy_id, change, part, removed, added)


def _order(policy_id: str, old: list[str], new: list[str]) -> Iterator[Difference]:
    """Yield that the exceptions that both have stand in another order; what came or went is told by itself."""
    kept = [one for one in old if one in new], [one for one in new if one in old]
    if kept[0] != kept[1]:
        yield Difference(policy_id, "changed", ORDER, *kept)


def _fields(policy_id: str, part: str, old: dict[str, Any], new: dict[str, Any]) -> Difference:
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    kept_old, kept_new = ({name: side.get(name) for name in names} for side in (old, new))
    return Difference(policy_id, "changed", part, kept_old, kept_new)
