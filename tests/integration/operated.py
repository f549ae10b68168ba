"""A service that is run and watched as operators do: over HTTP, in the forms that supervisors and Prometheus read."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client.parser import text_string_to_metric_families

from tests.servers.process import free_ports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

COMMAND = str(Path(sys.executable).with_name("usageaudit"))
SECONDS = 60.0

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@dataclass(slots=True)
class Service:
    """`usageaudit consume`, or another command before it, with its port and its log."""

    folder: Path
    stream: str
    store: str
    settings: dict[str, str] = field(default_factory=dict)
    command: Sequence[str] = (COMMAND, "consume")
    port: int = field(default_factory=lambda: free_ports(1)[0])
    process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The settings of the service, and none of this process."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("USAGEAUDIT_")}
        given = {"stream": self.stream, "store": self.store, "http": f"127.0.0.1:{self.port}", **self.settings}
        return {**kept, **{f"USAGEAUDIT_{name.upper()}": value for name, value in given.items()}}

    def start(self) -> None:
        """Start the process."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command, env=self.environment, cwd=self.folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )

    @property
    def running(self) -> subprocess.Popen[bytes]:
        """The process."""
        assert self.process is not None
        return self.process

    def ask(self, path: str) -> tuple[int, str]:
        """Return status and body of an answer. Raises OSError where there is none."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def status(self, path: str) -> int:
        """Return the status of an answer, 0 where there is none."""
        try:
            return self.ask(path)[0]
        except (OSError, http.client.HTTPException):
            return 0

    def reasons(self) -> list[str]:
        """Return why it is not ready."""
        reasons: list[str] = json.loads(self.ask("/readyz")[1])["reasons"]
        return reasons

    def samples(self) -> Samples:
        """Return the samples of /metrics by name and labels."""
        status, text = self.ask("/metrics")
        assert status == 200
        families = text_string_to_metric_families(text)
        return {(one.name, frozenset(one.labels.items())): one.value for two in families for one in two.samples}

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of the samples of a name that have these labels."""
        wanted = set(labels.items())
        return sum(value for (one, found), value in self.samples().items() if one == name and found >= wanted)

    def said(self, event: str) -> list[dict[str, Any]]:
        """Return the lines of the log with this event."""
        lines = (self.folder / "log").read_text(encoding="utf-8", errors="replace").splitlines()
        found: list[dict[str, Any]] = [json.loads(line) for line in lines if line.startswith("{")]
        return [line for line in found if line.get("event") == event]

    def wait(self, is_so: Callable[[], bool], what: str, seconds: float = SECONDS) -> None:
        """Wait until something is so; fail where the process ends before, or after so many seconds."""
        until = time.monotonic() + seconds
        while not is_so():
            log = (self.folder / "log").read_text(encoding="utf-8", errors="replace")
            assert self.running.poll() is None, f"{what}: the service ended with {self.running.returncode}\n{log}"
            assert time.monotonic() < until, f"{what}: not within {seconds} s\n{log[-4_000:]}"
            time.sleep(0.05)

    def wait_ready(self) -> None:
        """Wait until it is ready."""
        self.wait(lambda: self.status("/readyz") == 200, "getting ready")

    def end(self) -> tuple[int, float]:
        """Send SIGTERM and return the exit code and after how many seconds it came."""
        began = time.monotonic()
        self.running.send_signal(signal.SIGTERM)
        return self.running.wait(SECONDS), time.monotonic() - began


@contextmanager
def operated(service: Service) -> Iterator[Service]:
    """Run a service until the block ends."""
    service.start()
    try:
        yield service
    finally:
        service.running.kill()
        service.running.wait()
