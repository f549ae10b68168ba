"""Versions of usageaudit other than this one: an earlier one from git, and a later one made by docs/upgrading.md.

Each is a folder with the three roots, run as processes of its own with the packages that are installed here.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import usageaudit
from tests.conftest import skip

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
ROOMS = ("producers", "consumers", "schemas")
INSTALLED = [str(Path(portion).parent) for portion in usageaudit.__path__]
LAUNCH = """import sys
own = {own!r}
sys.path[:] = [*{roots!r}, *(one for one in sys.path if one not in own)]
{then}"""
COMMAND_LINE = "from usageaudit.cli import main; main()"

BEFORE_APPROVALS = "a46ce593aaa5f50d248d0db0f2a48fa3ebed59f7"
"""The last commit whose schema ends at 0002."""
BEFORE_REJUDGED = "6fe46a94c301afdf5e316d7d44f52f387966dd83"
"""The last commit whose schema ends at 0003."""


@dataclass(frozen=True, slots=True)
class Version:
    """A version by the folder of its source."""

    folder: Path

    def program(self, then: str) -> list[str]:
        """Return the command of a Python program that imports this version."""
        roots = [str(self.folder / room) for room in ROOMS]
        return [sys.executable, "-P", "-c", LAUNCH.format(own=INSTALLED, roots=roots, then=then)]


@dataclass(frozen=True, slots=True)
class Place:
    """A stream and a store, and the folder to run in."""

    stream: str
    store: str
    folder: Path

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment of a process that uses them."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("USAGEAUDIT_")}
        policies = "azure-openai-code-of-conduct"
        urls = {"USAGEAUDIT_STREAM": self.stream, "USAGEAUDIT_STORE": self.store}
        return {**kept, **urls, "USAGEAUDIT_POLICIES": policies}

    def run(self, version: Version, *arguments: str, code: int = 0) -> str:
        """Run a command line of a version; return what it printed, after checking its exit code."""
        done = self.try_(version, *arguments)
        assert done.returncode == code, f"{arguments} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def try_(self, version: Version, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command line of a version to its end, whatever that is."""
        return subprocess.run(
            [*version.program(COMMAND_LINE), *arguments], env=self.environment, cwd=self.folder, capture_output=True,
            text=True, timeout=180, check=False,
        )  # fmt: skip

    def start(self, version: Version, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a command line of a version; what it says goes to a file in the folder."""
        with (self.folder / "processes.log").open("ab") as log:
            return subprocess.Popen(
                [*version.program(COMMAND_LINE), *arguments], env=self.environment, cwd=self.folder, stdout=log,
                stderr=log,
            )  # fmt: skip

    def query(self, version: Version, *arguments: str) -> list[dict[str, Any]]:
        """Return the rows of `usageaudit query` as objects."""
        lines = self.run(version, "query", *arguments, "--format=ndjson").splitlines()
        return [json.loads(line) for line in lines]


THIS = Version(ROOT)


def pinned(commit: str, folder: Path) -> Version:
    """Unpack an earlier version; the test is skipped where the history of this repository is not there."""
    there = subprocess.run(
        ["git", "cat-file", "-e", f"{commit}^{{commit}}"], cwd=ROOT, capture_output=True, check=False
    )
    if there.returncode:
        skip(f"the history of the repository does not reach back to {commit[:12]}")
    packed = subprocess.run(["git", "archive", commit, *ROOMS], cwd=ROOT, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    return Version(folder)


MIGRATION = """from usageaudit.ledger.ddl import VIEWS
(view,) = (view for view in VIEWS if view.name == "usage_events")
print("ALTER TABLE ledger ADD COLUMN IF NOT EXISTS `purpose_project` LowCardinality(Nullable(String))"
      " AFTER `purpose_reference`;")
print(view.create.replace("CREATE VIEW IF NOT EXISTS", "CREATE OR REPLACE VIEW") + ";")
"""
FIELD = "purpose.project"
LATER_TYPE = "io.usageaudit.model_usage.v2"
_EVENTS, _QUERIES = "schemas/usageaudit/events", "consumers/usageaudit/stores/queries"
EDITS = (
    (
        f"{_EVENTS}/model.py",
        '    reference: Annotated[str | None, Doc("id in the register of approved uses"), IDENTIFIER] = None\n',
        '    project: Annotated[str | None, Doc("project that the use is for")] = None\n',
    ),
    (f"{_EVENTS}/examples.py", '    "purpose.reference": "UC-0042",\n', '    "purpose.project": "P-7",\n'),
    (f"{_QUERIES}/unknown-fields.sql", "'purpose', ", "'purpose.project', "),
)
"""What docs/upgrading.md says of a new optional field, for `purpose.project`: a file, and what comes after what."""


def later(folder: Path) -> Version:
    """Make the version after this one, which has one more field and reads another version of the event, too."""
    for room in ROOMS:
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name, after, added in EDITS:
        _edit(folder / name, after, after + added)
    known = 'attributes["type"] != EVENT_TYPE'
    _edit(
        folder / "schemas/usageaudit/cloudevents.py", known, f'attributes["type"] not in (EVENT_TYPE, "{LATER_TYPE}")'
    )
    version = Version(folder)
    text = subprocess.run(version.program(MIGRATION), capture_output=True, text=True, check=True).stdout
    migrations = folder / "schemas/usageaudit/ledger/migrations"
    number = max(int(file.name[:4]) for file in migrations.glob("*.sql")) + 1
    (migrations / f"{number:04}_project.sql").write_text(text, encoding="utf-8")
    return version


def _edit(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{file.name} has changed: say anew what is to be edited there"
    file.write_text(text.replace(old, new), encoding="utf-8")
