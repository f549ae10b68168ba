"""What a policy means, apart from how it is written: the one definition that `diff`, `lock` and approvals share.

A meaning is made of parts, named as in a policy's file (`severity`, `revisions.2.when`, `exceptions.EX-17`). It is that
of the policy in its bundle: after overrides, with what its conditions read of lists and of the registry. Title,
description, basis, tests and the reason of an exception tell people something and change no verdict: they are no part.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usageaudit.events.times import MAX_TIME, format_time
from usageaudit.policy.canonical import form_of
from usageaudit.policy.language import Named, fields_read, lists_read, parse, unparse, walk

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from usageaudit.policy.language import Condition, Path
    from usageaudit.policy.model import Bundle, Policy
    from usageaudit.policy.windows.model import Window

FORMAT = 1
"""Number of this definition of meaning, which every digest covers."""
SHORT = 16
ORDER = "exceptions"
"""The part that says which of several exceptions goes first."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a meaning: parts of equal `form` mean the same.

    `named` is the form with lists and sub-conditions by name, `reads` are the names of the parts that those are.
    `condition` or `plain` is what there is to show of it. A part that only `explains` others, such as a list that
    conditions name, does not count by itself.
    """

    form: str
    named: str = ""
    reads: frozenset[str] = frozenset()
    condition: Condition | None = None
    plain: Any = None
    explains: bool = False

    @property
    def digest(self) -> str:
        """The beginning of a SHA-256 over the part as it is written: enough to say that it is another one."""
        return hashlib.sha256((self.named or self.form).encode()).hexdigest()[:SHORT]

    @property
    def shown(self) -> Any:
        """What the part says, as text or JSON."""
        if self.condition is None:
            return self.plain
        text = unparse(parse(self.condition.source.text, origin=self.condition.source.origin).tree)
        return text if self.plain is None else {"when": text, **self.plain}


@dataclass(frozen=True, slots=True)
class Meaning:
    """The meaning of a policy: its highest version, its stage, and its parts by name."""

    policy_id: str
    version: int
    stage: str
    parts: Mapping[str, Part]

    @property
    def digest(self) -> str:
        """The SHA-256, in hex, of the policy's id and of all that its parts mean."""
        forms = {name: part.form for name, part in self.parts.items() if not part.explains}
        text = json.dumps([FORMAT, self.policy_id, forms], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def meanings(bundle: Bundle) -> dict[str, Meaning]:
    """Return the meaning of every policy of a bundle, by id."""
    return {policy.id: meaning_of(policy, bundle) for policy in bundle.all_policies}


def meaning_of(policy: Policy, bundle: Bundle) -> Meaning:
    """Return the meaning of a policy in its bundle."""
    parts = dict(_parts(policy))
    read = {path for condition in _conditions(policy) for path in fields_read(condition)}
    read |= {path for path in (*policy.message.parts, *policy.evidence) if isinstance(path, tuple)}
    parts.update(_registry(bundle, sorted(path for path in read if path[0] == "registry")))
    for name in sorted({name for condition in _conditions(policy) for name in lists_read(condition)}):
        values = list(bundle.lists[name])
        parts[f"lists.{name}"] = Part(_json(sorted(map(_json, values))), plain=values, explains=True)
    used = {node.name for condition in _conditions(policy) for node in walk(condition.root) if isinstance(node, Named)}
    for name in (name for name in policy.lets if name in used):
        parts[f"let.{name}"] = _condition(policy.lets[name], explains=True)
    return Meaning(policy.id, version_of(policy), policy.stage, parts)


def version_of(policy: Policy) -> int:
    """Return the version of a policy: the highest of its revisions."""
    return max(revision.version for revision in policy.revisions)


def _conditions(policy: Policy) -> Iterator[Condition]:
    if policy.applies is not None:
        yield policy.applies
    yield from (revision.when for revision in policy.revisions)
    yield from (revision.condition for revision in policy.revisions if revision.condition is not None)
    yield from (exception.when for exception in policy.exceptions)
    if policy.window is not None:
        yield from policy.window.conditions


def _parts(policy: Policy) -> Iterator[tuple[str, Part]]:
    yield "severity", _plain(policy.severity)
    yield "stage", _plain(policy.stage)
    if policy.applies is not None:
        yield "applies", _condition(policy.applies)
    for revision in sorted(policy.revisions, key=lambda one: one.version):
        yield f"revisions.{revision.version}.when", _condition(revision.when)
        if revision.condition is not None:
            yield f"revisions.{revision.version}.condition", _condition(revision.condition)
        yield f"revisions.{revision.version}.from", _plain(_time(revision.start))
        yield f"revisions.{revision.version}.to", _plain(_time(revision.end))
    if policy.window is None:
        yield "on_unknown", _plain(policy.on_unknown)
    else:
        yield from _window(policy.window)
    yield "message", _plain(policy.message.text)
    yield "evidence", _plain(sorted(map(".".join, policy.evidence)))
    if len(policy.exceptions) > 1:  # the first one that holds is recorded
        yield ORDER, _plain([exception.id for exception in policy.exceptions])
    for exception in policy.exceptions:
        rest = {"expires": _time(exception.expires), "approved_by": exception.approved_by}
        yield f"exceptions.{exception.id}", _condition(exception.when, rest)
    if policy.alert is not None:
        dedup_by = sorted(map(".".join, policy.alert.dedup_by))
        yield "alert", _plain({"dedup_by": dedup_by, "for": f"{policy.alert.window // 1_000_000}s"})


def _window(window: Window) -> Iterator[tuple[str, Part]]:
    over = window.over
    length = over if over is None or isinstance(over, int) else f"calendar {over.unit} in {over.zone}"
    field = None if window.field is None else ".".join(window.field)
    named = {"kind": window.kind, "over": length, "group_by": list(map(".".join, window.group_by)), "field": field}
    yield from ((f"window.{name}", _plain(value)) for name, value in named.items())
    yield from ((f"window.steps.{number}", _condition(step)) for number, step in enumerate(window.steps, start=1))
    if window.expect is not None:
        yield "window.expect", _condition(window.expect)
    if window.heartbeat is not None:
        every = {"every": f"{window.heartbeat.every // 1_000_000}s"}
        yield "window.heartbeat", _condition(window.heartbeat.when, every)


def _plain(value: Any) -> Part:
    return Part(_json(value), plain=value)


def _condition(condition: Condition, rest: Mapping[str, Any] | None = None, *, explains: bool = False) -> Part:
    """Return the part of a condition, with what else belongs to it."""
    lets = {node.name for node in walk(condition.root) if isinstance(node, Named)}
    reads = {f"let.{name}" for name in lets} | {f"lists.{name}" for name in lists_read(condition)}
    forms = [_json([form_of(condition.root, by_name=by_name), rest]) for by_name in (False, True)]
    return Part(forms[0], forms[1], frozenset(reads), condition, rest, explains)


def _registry(bundle: Bundle, paths: list[Path]) -> Iterator[tuple[str, Part]]:
    """Yield what the registry says of each application in the fields that a policy reads."""
    names = [path[1] for path in paths]
    for application, entry in bundle.registry.items():
        known = {name: value for name in names if (value := getattr(entry, name)) is not None}
        if known:
            yield f"registry.{application}", _plain(known)


def _time(micros: int | None) -> str | None:
    return None if micros is None else format_time(micros) if micros < MAX_TIME * 50 else str(micros)


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
