"""The shipped consumer, `usageaudit consume`, as a process of its own whose log is read back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

PROGRAM = str(Path(sys.executable).with_name("usageaudit"))
POLICIES = "azure-openai-code-of-conduct"
OUT_OF_REACH = 3
"""The exit code where a server can't be reached at the start."""


def environment(**settings: str) -> dict[str, str]:
    """Return the environment of a process of ours: this one's without settings, and these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("USAGEAUDIT_")}
    named = {f"USAGEAUDIT_{name.upper()}": value for name, value in settings.items()}
    shared = {"USAGEAUDIT_POLICIES": POLICIES, "USAGEAUDIT_LOG_FORMAT": "json", "USAGEAUDIT_HTTP": "off"}
    return {**kept, **shared, **named}


def run(*arguments: str, env: Mapping[str, str], code: int = 0, seconds: float = 120) -> str:
    """Run a command of ours to its end and return what it printed, after checking its exit code."""
    done = subprocess.run([PROGRAM, *arguments], env=env, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == code, f"{arguments} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


class ConsumerService:
    """`usageaudit consume` between a stream and a store."""

    def __init__(self, folder: Path, stream: str, store: str, **settings: str) -> None:
        self.log = folder / f"consumer-{time.monotonic_ns()}.log"
        with self.log.open("w") as out:
            self.process = subprocess.Popen(
                [PROGRAM, "consume"],
                env=environment(stream=stream, store=store, **settings),
                stdout=out, stderr=subprocess.STDOUT, cwd=folder,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self.process.pid

    def said(self, event: str) -> list[dict[str, Any]]:
        """Return the lines of its log that say so."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        found = [json.loads(line) for line in lines if line.startswith("{") and event in line]
        return [line for line in found if line.get("event") == event]

    def end(self, seconds: float = 60) -> int:
        """Ask it to stop, wait, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def kill(self) -> None:
        """End it as a crash would, and wait until it is gone."""
        self.process.kill()
        self.process.wait()


@contextmanager
def consuming(folder: Path, stream: str, store: str, **settings: str) -> Iterator[ConsumerService]:
    """Run a consumer; it is gone when the block ends."""
    service = ConsumerService(folder, stream, store, **settings)
    try:
        yield service
    finally:
        service.kill()


def wait_until(
    what: str, condition: Callable[[], bool], seconds: float, service: ConsumerService | None = None, every: float = 0.1
) -> float:
    """Wait for a condition and return how many seconds it took; fail with what was waited for and the log's end."""
    begun = time.monotonic()
    while not condition():
        if time.monotonic() > begun + seconds:
            log = service.log.read_text()[-3000:] if service else ""
            raise AssertionError(f"waited {seconds:.0f} s in vain for: {what}\n{log}")
        time.sleep(every)
    return time.monotonic() - begun
