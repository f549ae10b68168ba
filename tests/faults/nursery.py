"""Processes to be killed, without the second that a new interpreter takes: they are forked from one that has imported.

The parent of all of them is the fork server of `multiprocessing`, which has no threads and no connections and has
loaded the policies, so that a campaign of twenty kills at a point takes seconds. To the system they are processes like
any other: kill -9 leaves nothing of them.
"""

from __future__ import annotations

import ctypes
import importlib
import multiprocessing
import os
import signal
import sys
import time
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PRELOADED = ["tests.faults.child", "tests.faults.traffic", "tests.faults.publishing"]
PR_SET_PDEATHSIG = 1  # prctl(2)
SIGKILLED = -signal.SIGKILL


def _run(module: str, arguments: tuple[str, ...], log: str, folder: str) -> None:
    """Be the process: everything it says goes to a file."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.chdir(folder)
    try:
        importlib.import_module(module).main(arguments)
    except Exception:
        traceback.print_exc()
        raise


class Process:
    """A process that runs `main(arguments)` of a module, with its output in `log`."""

    def __init__(self, folder: Path, module: str, *arguments: str) -> None:
        self.log = folder / f"{module.rpartition('.')[2]}-{time.monotonic_ns()}.log"
        self.log.touch()
        self._process = _context().Process(target=_run, args=(module, arguments, str(self.log), str(folder)))
        self._process.start()

    @property
    def pid(self) -> int:
        """Its id."""
        return int(self._process.pid)

    @property
    def exit_code(self) -> int | None:
        """Its exit code, negative for the signal that ended it, None while it runs."""
        code: int | None = self._process.exitcode
        return code

    @property
    def asleep(self) -> bool:
        """Whether it is stopped by a signal."""
        return Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it still runs."""
        if self.exit_code is None:
            os.kill(self.pid, number)

    def wait(self, seconds: float = 60) -> int:
        """Wait for its end and return its exit code; fails with its log where it does not end."""
        self._process.join(seconds)
        code = self.exit_code
        assert code is not None, f"{self.log} still runs after {seconds} s:\n{self.said()[-4000:]}"
        return code

    def end(self, seconds: float = 60) -> int:
        """Ask it to stop, wait, and return its exit code."""
        self.send(signal.SIGTERM)
        return self.wait(seconds)

    def kill(self) -> None:
        """End it, whatever it does."""
        self.send(signal.SIGKILL)
        self._process.join()

    def said(self) -> str:
        """Return what it printed so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")


@contextmanager
def running(folder: Path, module: str, *arguments: str) -> Iterator[Process]:
    """Run a process; it is gone when the block ends."""
    process = Process(folder, module, *arguments)
    try:
        yield process
    finally:
        process.kill()


def _context() -> Any:
    """Return the fork server's context; the server starts with the first process and lives as long as this one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if str(ROOT) not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, paths)])
    return context
