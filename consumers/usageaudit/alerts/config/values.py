"""Reads the values that are in several places of an `alerts.yaml`: secrets, URLs, templates, durations, names."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from usageaudit.alerts.config.secrets import Plain, Secret
from usageaudit.alerts.config.shapes import SECRET_SHAPE
from usageaudit.alerts.config.templates import FIELDS, Field, Template
from usageaudit.alerts.config.urls import tells_a_secret
from usageaudit.errors import ConfigurationError
from usageaudit.policy.fields import Fields, text_of
from usageaudit.policy.message import PLACEHOLDER
from usageaudit.policy.report import did_you_mean
from usageaudit.policy.yamltree import Mapping, Scalar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from usageaudit.alerts.config.secrets import Url
    from usageaudit.policy.report import Report
    from usageaudit.policy.yamltree import Node, Place

NAME_IT = "write {env: NAME} for a variable of the environment, or {file: PATH}"
MAX_NAMES = 100
"""How many entries a list of names, globs or addresses may have."""
MAX_NAME = 200
MAX_TEMPLATE = 10_000


@dataclass(frozen=True, slots=True)
class Reading:
    """What the parts of the reading share: where errors go, and the folder that paths start from."""

    report: Report
    folder: Path

    def secret(
        self, node: Node | None, what: str, where: str, *, check: Callable[[str], str] | None = None
    ) -> Secret | None:
        """Return where a secret is, which must be there; `check` returns what is wrong with it without showing it.

        None, and reported, for anything else: `what` is called so, `where` names who needs it.
        """
        if node is None:
            return None
        if not isinstance(node, Mapping):
            self.report.error(
                node.place, f"{what} of {where} is a secret, which is named and not written down", NAME_IT
            )
            return None
        fields = Fields(node, f"{what} of {where}", SECRET_SHAPE, self.report)
        named = [name for name in SECRET_SHAPE if fields.node_of(name) is not None]
        if len(named) != 1 or len(node.entries) != 1:
            self.report.error(node.place, f"{what} of {where} is either env or file", NAME_IT)
            return None
        secret = self._named(fields, named[0])
        if secret is None:
            return None
        return secret if self._is_there(secret, node.place, f"{what} of {where}", check) else None

    def _named(self, fields: Fields, place: str) -> Secret | None:
        name = fields.text(place)
        if not name:
            return None
        return Secret("env", name) if place == "env" else Secret("file", str(self.folder / _expanded(name)))

    def _is_there(self, secret: Secret, place: Place, what: str, check: Callable[[str], str] | None) -> bool:
        try:
            problem = check(secret.reveal()) if check is not None else secret.reveal() and ""
        except ConfigurationError as error:
            self.report.error(place, f"{what}: {error}")
            return False
        if problem:
            self.report.error(place, f"{what}: {secret} {problem}")
        return not problem

    def url(
        self,
        node: Node | None,
        where: str,
        check: Callable[[str], str],
        *,
        telling: Callable[[str], bool] = tells_a_secret,
    ) -> Url | None:
        """Return a URL, which is written down only if it tells no secret."""
        if not isinstance(node, Scalar):
            return self.secret(node, "the url", where, check=check)
        text = text_of(node, "url", self.report)
        if text is None:
            return None
        if problem := check(text):
            self.report.error(node.place, f"the url of {where} {problem}")
            return None
        if telling(text):
            self.report.error(node.place, f"the url of {where} seems to hold a secret, which is named instead", NAME_IT)
            return None
        return Plain(text)

    def template(self, node: Scalar | None, name: str) -> Template | None:
        """Return a template, which names fields of alerts alone."""
        if node is None:
            return None
        if len(node.text) > MAX_TEMPLATE:
            self.report.error(node.place, f"{name} has more than {MAX_TEMPLATE:,} characters")
            return None
        parts: list[str | Field] = []
        at = 0
        before = self.report.errors
        for found in PLACEHOLDER.finditer(node.text):
            parts.append(node.text[at : found.start()])
            parts.append(self._placeholder(found, node, name))
            at = found.end()
        parts.append(node.text[at:])
        return Template(tuple(part for part in parts if part)) if self.report.errors == before else None

    def _placeholder(self, found: re.Match[str], node: Scalar, name: str) -> str | Field:
        if found[0] in ("{{", "}}"):
            return found[0][0]
        if found[1] is None:
            self.report.error(node.place, f"a brace alone in {name}", "{field} stands for a field, {{ for a brace")
        elif found[1] in FIELDS:
            return Field(found[1])
        else:
            word = re.split(r"[.\[!:]", found[1].strip())[0]
            hint = f"write {{{word}}}: nothing is looked up in a field, and nothing formatted" if word in FIELDS else ""
            hint = hint or did_you_mean(found[1], FIELDS) or f"there are {', '.join(FIELDS)}"
            self.report.error(node.place, f"unknown field {found[0][:60]} in {name}", hint)
        return ""

    def seconds(self, fields: Fields, name: str, default: float, least: float, most: float) -> float:
        """Return a duration in seconds."""
        node = fields.node_of(name)
        if node is None:
            return default
        before = self.report.errors
        found = fields.duration(name) / 1_000_000
        if self.report.errors == before and not least <= found <= most:
            self.report.error(node.place, f"{name} is from {_words(least)} to {_words(most)}")
        return found if least <= found <= most else default

    def names(self, fields: Fields, name: str, *, required: bool = False) -> tuple[Scalar, ...]:
        """Return the texts of a list that is not empty, each once and none very long."""
        node = fields.node_of(name)
        texts = fields.texts(name, required=required)
        if node is not None and not fields.items(name) and not isinstance(node, Scalar | Mapping):
            self.report.error(node.place, f"{name} is an empty list", "name something, or leave it out")
        if node is not None and len(texts) > MAX_NAMES:
            self.report.error(node.place, f"{name} has more than {MAX_NAMES} entries")
        for text in texts:
            if len(text.text) > MAX_NAME:
                self.report.error(text.place, f"an entry of {name} has more than {MAX_NAME} characters")
        return tuple({text.text: text for text in texts}.values())

    def known(self, texts: tuple[Scalar, ...], words: Collection[str], what: str) -> tuple[str, ...]:
        """Return those texts that are known words; others are reported."""
        for text in texts:
            if text.text not in words:
                hint = did_you_mean(text.text, words) or f"there are {', '.join(list(words)[:30]) or 'none'}"
                self.report.error(text.place, f"unknown {what} {text.text[:60]}", hint)
        return tuple(text.text for text in texts if text.text in words)


def _expanded(text: str) -> str:
    return os.path.expanduser(text)  # noqa: PTH111  the method fails where it does not know the user


def _words(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size and seconds % size == 0 and seconds != size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"
