"""The conformance data of CEL's specification and the parser's cases of cel-go, from the npm package that has both.

Each is a JavaScript module that holds one literal: JSON but for names without quotes, strings in single quotes and
commas at the end. It is read as that, so that no JavaScript is run.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from typing import TYPE_CHECKING, Any

from tests.servers.packages import Package, run

if TYPE_CHECKING:
    from pathlib import Path

NAME = "@bufbuild/cel-spec"
VERSION = "0.6.1"
SHA256 = "37e4b203f5ca5192db73a6095d129fb5e58a262a89309ba32e1840e7a80270e1"
FOLDER = "package/dist/esm/testdata"
FILES = ("conformance.js", "parsing.js")

_TOKEN = re.compile(
    r"""
    (?P<double> "(?:[^"\\]|\\.)*" )
  | (?P<single> '(?:[^'\\]|\\.)*' )
  | (?P<comma> ,(?=\s*[\]}]) )
  | (?P<key> [A-Za-z_$][\w$]* )(?=\s*:)
    """,
    re.VERBOSE,
)
_QUOTES = re.compile(r"\\.|\"")


def fetch(folder: Path) -> None:
    """Fill a folder with the two files.

    Raises:
        ValueError: the package is not the one that was pinned.
        UnavailableError: it can't be downloaded.
    """
    run(["npm", "pack", "--silent", f"{NAME}@{VERSION}"], folder)
    (tarball,) = folder.glob("*.tgz")
    digest = hashlib.sha256(tarball.read_bytes()).hexdigest()
    if digest != SHA256:
        raise ValueError(f"{NAME} {VERSION} has the SHA-256 {digest}, not {SHA256}")
    with tarfile.open(tarball) as archive:
        for name in FILES:
            archive.extract(f"{FOLDER}/{name}", folder, filter="data")
    tarball.unlink()


CEL_SPEC = Package("cel-spec", VERSION, "npm", fetch)


def suite(folder: Path, name: str) -> Any:
    """Return the suite that a file of the installed package holds: its name, and further suites or tests."""
    return literal((folder / FOLDER / name).read_text(encoding="utf-8"))


def literal(module: str) -> Any:
    """Return the value of the literal that a module assigns to its one constant."""
    text = module[module.index("= ") + 2 : module.rindex(";")]
    return json.loads(_TOKEN.sub(_as_json, text))


def _as_json(token: re.Match[str]) -> str:
    text = token.group()
    match token.lastgroup:
        case "single":
            return f'"{_QUOTES.sub(_quote, text[1:-1])}"'
        case "comma":
            return ""
        case "key":
            return f'"{text}"'
        case _:
            return text


def _quote(found: re.Match[str]) -> str:
    """Return a quote, or an escape, of a string in single quotes as JSON writes it."""
    return {'"': '\\"', "\\'": "'"}.get(found.group(), found.group())
