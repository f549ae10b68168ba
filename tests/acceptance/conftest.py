"""The two pairs of stream and store that everything has to work on, and the command line run as people run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

COMMAND = str(Path(sys.executable).with_name("usageaudit"))


@dataclass(frozen=True, slots=True)
class Pair:
    """A stream and a store by their URLs, with the command line pointed at both."""

    stream: str
    store: str
    folder: Path
    policies: str = "azure-openai-code-of-conduct"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a process that uses this pair."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("USAGEAUDIT_")}
        return {
            **kept,
            "USAGEAUDIT_STREAM": self.stream,
            "USAGEAUDIT_STORE": self.store,
            "USAGEAUDIT_POLICIES": self.policies,
            "PYTHONWARNINGS": "default",
        }

    def run(self, *arguments: str, text: str | None = None, code: int = 0, timeout: float = 120) -> str:
        """Run `usageaudit` with arguments and standard input; return what it printed, after checking its exit code."""
        done = subprocess.run(
            [COMMAND, *arguments], input=text, env=self.environment, cwd=self.folder, capture_output=True, text=True,
            timeout=timeout, check=False,
        )  # fmt: skip
        assert done.returncode == code, f"{arguments} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def query(self, sql: str, parameters: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        """Return the rows of `usageaudit query` as objects."""
        given = [f"--param={name}={value}" for name, value in (parameters or {}).items()]
        return [json.loads(line) for line in self.run("query", sql, *given, "--format=ndjson").splitlines()]

    def consume(self, **options: Any) -> str:
        """Consume all that is in the stream now."""
        return self.run("consume", "--until-caught-up", **options)


@pytest.fixture(params=["embedded", "servers"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Pair:
    """Return the embedded pair, then Kafka with ClickHouse."""
    if request.param == "embedded":
        return Pair("embedded:./data", "embedded:./data", tmp_path)
    kafka, topic = request.getfixturevalue("kafka"), request.getfixturevalue("topic")
    store = request.getfixturevalue("clickhouse_database")
    return Pair(f"{kafka.url}?topic={topic}&group=group-{topic}", store, tmp_path)
