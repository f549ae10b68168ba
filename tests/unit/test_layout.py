"""How the code lies: three roots of one namespace package, rooms with a purpose, and files of a size to read."""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOTS = tuple(ROOT / side / "usageaudit" for side in ("producers", "consumers", "schemas"))
FILES = tuple(sorted(path for root in ROOTS for path in root.rglob("*.py")))
MAX_LINES, MAX_FUNCTION_LINES = 400, 60


def _module(path: Path) -> str:
    """Return the name by which a file is imported."""
    (parts,) = (path.relative_to(root.parent).with_suffix("").parts for root in ROOTS if path.is_relative_to(root))
    return ".".join(parts).removesuffix(".__init__")


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _public(path: Path) -> bool:
    return any(isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__" for node in _tree(path).body)


@pytest.mark.parametrize("root", ROOTS, ids=lambda root: root.parent.name)
def test_no_root_hides_the_others(root: Path) -> None:
    """A `usageaudit/__init__.py` in one of the roots would hide the other two, so there is none."""
    assert root.is_dir()
    assert not (root / "__init__.py").exists()


def test_every_room_says_what_it_is_for() -> None:
    """Each folder with code has an `__init__.py` that opens with a docstring, and so does each file."""
    assert [path for path in FILES if not ast.get_docstring(_tree(path))] == []
    rooms = {path.parent for path in FILES} - set(ROOTS)
    assert [room for room in rooms if not (room / "__init__.py").is_file()] == []


def test_the_mark_of_types_is_there_once() -> None:
    """One `py.typed` serves the three roots; two would be installed over each other."""
    assert [path for root in ROOTS for path in root.rglob("py.typed")] == [ROOT / "schemas" / "usageaudit" / "py.typed"]


@pytest.mark.parametrize("path", [path for path in FILES if _public(path)], ids=_module)
def test_every_public_name_is_there(path: Path) -> None:
    """What `__all__` promises can be imported, and is named once."""
    module = importlib.import_module(_module(path))
    names = list(module.__all__)
    assert [name for name in names if not hasattr(module, name)] == []
    assert len(names) == len(set(names))


def test_every_dependency_says_why_it_is_there() -> None:
    """Each package that an installation brings has a comment on its line that says what it is for."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    required = [*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())]
    others = [requirement for requirement in required if not requirement.startswith("usageaudit[")]
    assert len(others) > 10
    said = {line.partition("#")[0].strip(" ,") for line in text.splitlines() if re.search(r"# \S+ \S+", line)}
    assert [requirement for requirement in others if not any(f'"{requirement}"' in line for line in said)] == []


@pytest.mark.parametrize("path", FILES, ids=_module)
def test_files_and_functions_can_be_read_at_a_sitting(path: Path) -> None:
    """No file is longer than 400 lines, no function longer than 60: what grows beyond is two things."""
    functions = [node for node in ast.walk(_tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions}
    assert {name: length for name, length in lengths.items() if length > MAX_FUNCTION_LINES} == {}
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES
