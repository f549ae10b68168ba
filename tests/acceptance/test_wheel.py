"""The wheel: what is in it, and that what is not installed with it is not needed.

Environments are made afresh, with what pip brings. Where its index is out of reach the tests are skipped.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import venv
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.conftest import skip
from tests.documents import ROOT

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = 280
UNREACHABLE = re.compile(r"NewConnectionError|NameResolutionError|ConnectTimeout|Network is unreachable")
EVENT = {
    "operation": "chat",
    "model": {"provider": "openai", "name": "gpt-4o"},
    "actor": {"id": "u-1"},
    "application": {"name": "claims-triage"},
}
PUBLISH = f"""
from usageaudit.publisher import Publisher

with Publisher("embedded:./usageaudit-data", source="//example.com/claims") as publisher:
    publisher.emit({EVENT!r}, durable=True)
"""
EXTRA = ("chdb", "clickhouse_driver", "pyarrow", "pydantic_settings", "re2", "rich", "structlog", "typer", "yaml")
FIND = f"from importlib.util import find_spec; print([name for name in {EXTRA} if find_spec(name)])"


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment, and beside it the folder in which its programs run."""

    path: Path
    folder: Path

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment, which sees no other Python's packages or settings."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "USAGEAUDIT_"))}
        return subprocess.run(
            [self.path / "bin" / program, *arguments], cwd=self.folder, env=kept, capture_output=True, text=True,
            timeout=SECONDS, check=False,
        )  # fmt: skip

    def prints(self, program: str, *arguments: str) -> str:
        """Run a program that must succeed, and return what it printed."""
        done = self.run(program, *arguments)
        assert done.returncode == 0, f"{program} {arguments}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def install(self, requirement: str) -> None:
        """Install with pip."""
        installing(self.run("python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", requirement))


def installing(done: subprocess.CompletedProcess[str]) -> None:
    """Skip the test where packages could not be fetched, and fail it where their installation failed."""
    if done.returncode and UNREACHABLE.search(done.stdout + done.stderr):
        skip("the wheel is tested with packages of an index that is out of reach")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel, built as `make wheel` does."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)]
    installing(subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False))
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def plain(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Return a new environment with the wheel, without extras."""
    environment = Environment(tmp_path_factory.mktemp("plain"), tmp_path_factory.mktemp("service"))
    venv.create(environment.path, with_pip=True)
    environment.install(str(wheel))
    return environment


@pytest.fixture(scope="module")
def embedded(wheel: Path, plain: Environment) -> Environment:
    """Return the same environment, from now on with the extra `embedded`, after a service published from it."""
    plain.prints("python", "-c", PUBLISH)
    plain.install(f"{wheel}[embedded]")
    return plain


def test_it_holds_the_three_roots_and_nothing_else(wheel: Path) -> None:
    """Each file of the three roots is in the wheel at its place, packs and SQL as well; tests and the like are not."""
    roots = [ROOT / side for side in ("producers", "consumers", "schemas")]
    files = [(root, path) for root in roots for path in (root / "usageaudit").rglob("*") if path.is_file()]
    expected = [path.relative_to(root).as_posix() for root, path in files if "__pycache__" not in path.parts]
    held = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    assert sorted(held) == sorted(expected)
    assert held.count("usageaudit/py.typed") == 1
    assert {name.rpartition(".")[2] for name in held} == {"lock", "py", "sql", "typed", "yaml"}


def test_a_service_needs_no_extra(plain: Environment) -> None:
    """Without extras neither a store's client nor the parts of the command line are there, and publishing works."""
    assert plain.prints("python", "-c", FIND) == "[]\n"
    plain.prints("python", "-W", "error", "-c", PUBLISH)
    assert (plain.folder / "usageaudit-data" / "stream.sqlite3").is_file()


def test_the_command_says_what_to_install(plain: Environment) -> None:
    """Without extras the command ends with code 2 and one line that names the extra."""
    done = plain.run("usageaudit", "--help")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: the command line is not installed: pip install 'usageaudit[cli]'\n"


def test_the_embedded_extra_is_enough(embedded: Environment) -> None:
    """With `embedded` what the service published is consumed and asked for, by the shipped packs and queries."""
    found = embedded.prints("python", "-c", FIND)
    assert "'chdb'" in found
    assert "'clickhouse_driver'" not in found
    counts = json.loads(embedded.prints("usageaudit", "consume", "--until-caught-up"))
    assert counts["accepted"] == counts["consumed"] > 0
    rows = embedded.prints("usageaudit", "query", "SELECT application_name FROM usage_events LIMIT 1")
    assert json.loads(rows) == {"application_name": "claims-triage"}
    assert "affected-by-policy" in embedded.prints("usageaudit", "query", "--list")


def test_a_server_as_store_names_its_extra(embedded: Environment) -> None:
    """With `embedded` alone a ClickHouse server is refused with code 2 and one line that names the extra."""
    done = embedded.run("usageaudit", "query", "SELECT 1", "--store", "clickhouse://default@127.0.0.1:9/default")
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "pip install 'usageaudit[consumer]'" in done.stderr
