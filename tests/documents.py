"""Reads the documents of the repository, and does what a reader of them would do.

The documents are parsed as CommonMark, so that what looks like a link or a block inside of code is none.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markdown_it.token import Token

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
SECONDS = 120
_MARKDOWN = MarkdownIt().enable("table")


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code: its document relative to the root, its first line, its text.

    The language is "" where a fenced block names none, and "indented" where a block has no fences.
    """

    document: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines that are not empty and not comments; a line that ends in a backslash goes on in the next one."""
        joined = re.sub(r"\\\n\s*", "", self.text)
        return tuple(line for line in joined.splitlines() if line.strip() and not line.startswith("#"))


def documents() -> tuple[Path, ...]:
    """Return the Markdown files of the repository."""
    return tuple(sorted((*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"))))


def name_of(document: Path) -> str:
    """Return the path of a document from the root."""
    return document.relative_to(ROOT).as_posix()


def code_blocks(document: Path) -> tuple[Block, ...]:
    """Return the blocks of code of a document in order."""
    return tuple(
        Block(
            document=name_of(document),
            line=token.map[0] + 1 if token.map else 0,
            language=token.info.strip() if token.type == "fence" else "indented",
            text=token.content,
        )
        for token in _tokens(document)
        if token.type in ("fence", "code_block")
    )


def links(document: Path) -> tuple[str, ...]:
    """Return the targets of a document's links and pictures."""
    found = (token.attrGet("href") or token.attrGet("src") for token in _tokens(document))
    return tuple(str(target) for target in found if target)


def inline_code(document: Path) -> tuple[str, ...]:
    """Return what a document's sentences show as code."""
    return tuple(token.content for token in _tokens(document) if token.type == "code_inline")


def anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    tokens = _MARKDOWN.parse(document.read_text(encoding="utf-8"))
    titles = [tokens[at + 1] for at, token in enumerate(tokens) if token.type == "heading_open"]
    texts = ("".join(part.content for part in title.children or ()) for title in titles)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in texts}


def verbs_of(block: Block) -> set[str]:
    """Return the targets of the `make` lines of a block, which has no others."""
    words = [line.split() for line in block.lines]
    assert {first for first, *_ in words} == {"make"}, f"{block}: not only lines of make"
    return {target for _, target, *_ in words}


def make_targets() -> set[str]:
    """Return the phony targets of the Makefile."""
    (line,) = re.findall(r"(?m)^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"))
    return set(line.split())


def _tokens(document: Path) -> Iterator[Token]:
    """Yield the tokens of a document, and those inside of its sentences."""
    for token in _MARKDOWN.parse(document.read_text(encoding="utf-8")):
        yield token
        yield from token.children or ()


@dataclass(slots=True)
class Reader:
    """Somebody who follows a document in a folder of their own, with the programs of this environment on the path."""

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)

    def write(self, block: Block) -> None:
        """Write a block to the file that its first line names in a comment."""
        first = block.text.partition("\n")[0]
        assert first.startswith("# "), f"{block}: the first line names no file"
        path = self.folder / first[2:].strip()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")

    def types(self, script: str, text: str | None = None) -> str:
        """Run lines in a shell that ends at the first error; return what they printed, after checking for one."""
        done = subprocess.run(
            ["/bin/sh", "-ec", script], input=text, env=self._environment(), cwd=self.folder, capture_output=True,
            text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{script}\nended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("USAGEAUDIT_")}
        return {**kept, "PATH": f"{BIN}{os.pathsep}{kept.get('PATH', '')}", **self.settings}
