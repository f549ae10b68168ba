"""`policy.lock`: what every policy of a bundle meant when its versions were last agreed on."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from usageaudit.policy.fields import Fields, text_of
from usageaudit.policy.folders import LOCK
from usageaudit.policy.language import quote
from usageaudit.policy.meaning import FORMAT, SHORT, meanings
from usageaudit.policy.report import Report
from usageaudit.policy.writing import yaml_text
from usageaudit.policy.yamltree import Mapping, TextFile, read_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Mapping as AnyMapping

    from usageaudit.policy.meaning import Meaning
    from usageaudit.policy.model import Bundle
    from usageaudit.policy.yamltree import Node

Problem = Literal["changed", "outdated", "missing", "surplus"]
"""changed: another meaning under the same version; outdated: a version that is not locked; missing from the lock, or
in it without being in the bundle."""

_HEAD = """\
# What the policies of this bundle mean, by version; `usageaudit policy lock` writes it, `--check` compares.
"""
_DIGEST = re.compile("[0-9a-f]{64}")
_WHEN = re.compile(r"revisions\.\d+\.when")


@dataclass(frozen=True, slots=True)
class Locked:
    """A policy in the lock: its highest version, the digest of its meaning, and short digests of the parts of that."""

    version: int
    digest: str
    parts: AnyMapping[str, str]


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A policy of which lock and bundle say different things; versions are None where there is no such policy."""

    policy_id: str
    problem: Problem
    locked_version: int | None
    version: int | None
    parts: tuple[str, ...] = ()


def lock_of(bundle: Bundle) -> dict[str, Locked]:
    """Return the lock that agrees with a bundle: an entry for every policy, those of used packs as they hold in it."""
    return {
        name: Locked(meaning.version, meaning.digest, _parts(meaning)) for name, meaning in meanings(bundle).items()
    }


def _parts(meaning: Meaning) -> dict[str, str]:
    """Return the short digests of a meaning's parts; those that say nothing are left out, the registry is one part."""
    parts = {name: part.digest for name, part in meaning.parts.items() if part.form not in ("null", "[]")}
    registry = {name: parts.pop(name) for name in list(parts) if name.startswith("registry.")}
    if registry:
        parts["registry"] = hashlib.sha256(json.dumps(registry, sort_keys=True).encode()).hexdigest()[:SHORT]
    return parts


def lock_text(lock: AnyMapping[str, Locked]) -> str:
    """Return the file: the same text for the same lock."""
    return "".join(_lines(lock))


def _lines(lock: AnyMapping[str, Locked]) -> Iterator[str]:
    yield _HEAD
    yield f"format: {FORMAT}\n"
    yield "policies:\n" if lock else "policies: {}\n"
    for name, locked in sorted(lock.items()):
        yield f"  {yaml_text(name)}:\n    version: {locked.version}\n    digest: {quote(locked.digest)}\n"
        yield "    parts:\n" if locked.parts else "    parts: {}\n"
        for part, digest in sorted(locked.parts.items()):
            yield f"      {yaml_text(part)}: {quote(digest)}\n"


def locked_in(bundle: Bundle, label: str) -> dict[str, Locked] | None:
    """Return the lock of a bundle's own folder, None where it has none.

    `label` begins the name that errors show. Raises InvalidBundle where it is broken.
    """
    own = next(part for part in bundle.parts if part.name == bundle.sources[0])
    if LOCK not in own.files:
        return None
    report = Report()
    lock = read_lock(own.files[LOCK], f"{label}/{LOCK}", report)
    report.raise_errors()
    return lock


def read_lock(text: str, label: str, report: Report) -> dict[str, Locked]:
    """Return the entries of a lock; what is wrong with it is reported."""
    fields = Fields(read_yaml(TextFile.of(label, text), report), "a lock", ("format", "policies"), report)
    version = fields.integer("format", FORMAT, least=1)
    if version != FORMAT and fields.node is not None:
        hint = "write it anew with `usageaudit policy lock`, or update usageaudit"
        report.error(fields.node.place, f"a lock of format {FORMAT} is read, not {version}", hint)
        return {}
    entries = _mapping(fields.node_of("policies", required=True), "policies", report)
    return {name: _locked(node, report) for name, node in entries.items()}


def _mapping(node: Node | None, name: str, report: Report) -> dict[str, Node]:
    if node is not None and not isinstance(node, Mapping):
        report.error(node.place, f"{name} is a mapping")
    return {key.text: value for key, value in node.entries} if isinstance(node, Mapping) else {}


def _locked(node: Node, report: Report) -> Locked:
    fields = Fields(node, "a locked policy", ("version", "digest", "parts"), report)
    fields.node_of("version", required=True)
    digest = fields.scalar("digest", required=True)
    if digest is not None and not _DIGEST.fullmatch(digest.text):
        report.error(digest.place, "digest is a SHA-256 of 64 hex digits")
    parts = {
        name: text_of(value, f"the digest of {name[:60]}", report) or ""
        for name, value in _mapping(fields.node_of("parts"), "parts", report).items()
    }
    return Locked(fields.integer("version", 1, least=1), digest.text if digest else "", parts)


def disagreements(lock: AnyMapping[str, Locked], now: AnyMapping[str, Locked]) -> Iterator[Disagreement]:
    """Yield every policy for which a lock says something else than the one that agrees with the bundle, by id."""
    for name in sorted(lock.keys() | now.keys()):
        locked, present = lock.get(name), now.get(name)
        if locked is None and present is not None:
            yield Disagreement(name, "missing", None, present.version)
        elif locked is not None and present is None:
            yield Disagreement(name, "surplus", locked.version, None)
        elif locked is not None and present is not None and locked.digest != present.digest:
            yield _disagreement(name, locked, present)


def _disagreement(name: str, locked: Locked, present: Locked) -> Disagreement:
    parts = [one for one in (*present.parts, *locked.parts) if locked.parts.get(one) != present.parts.get(one)]
    both = locked.parts.keys() & present.parts.keys()
    # A revision that keeps its number must keep its condition, whatever newer ones there are.
    kept = locked.version != present.version and not any(_WHEN.fullmatch(one) and one in both for one in parts)
    problem: Problem = "outdated" if kept else "changed"
    return Disagreement(name, problem, locked.version, present.version, tuple(dict.fromkeys(parts)))
