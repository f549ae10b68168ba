"""Schedulers as processes of their own that are killed, or put to sleep, at a chosen statement.

    python -m tests.integration.windows.nursery STORE BUNDLE

reads commands from its input, one a line, forks a scheduler for each, and prints how that ended:

    step N KIND            one step, killed at its N-th statement: before it is sent, or after its answer came
    sleep WORD [unfenced]  one step, stopped before the first statement that begins with WORD; prints its process id
    finish                 steps until it has caught up
    serve SECONDS          the service with a lease of so many seconds, until it is killed; prints its process id
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usageaudit.policy import load_bundle
from usageaudit.scheduler import lease, recording, running
from usageaudit.scheduler.service import Scheduler
from usageaudit.stores.address import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from usageaudit.policy.model import Bundle

ROOT = Path(__file__).parents[3]


class _Struck:
    """A store that lets a fault strike around its statements."""

    def __init__(self, store: Any, before: Callable[[str], None], after: Callable[[], None]) -> None:
        self._store, self._before, self._after = store, before, after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def execute(self, sql: str, parameters: Any = None, *, query_id: str | None = None) -> Any:
        """Run a statement, if the process lives."""
        self._before(sql)
        found = self._store.execute(sql, parameters, query_id=query_id)
        self._after()
        return found


def _killing(store: Any, nth: int, kind: str) -> _Struck:
    left = [nth]

    def strike(_: str = "") -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    nothing: Any = lambda *_: None  # noqa: E731
    return _Struck(store, strike if kind == "before" else nothing, strike if kind == "after" else nothing)


def _sleeping(store: Any, word: str) -> _Struck:
    def strike(sql: str) -> None:
        if sql.lstrip().startswith(f"INSERT INTO {word}"):
            os.kill(os.getpid(), signal.SIGSTOP)

    return _Struck(store, strike, lambda: None)


def _step(store: Any, bundle: Bundle, *, finish: bool = False) -> None:
    scheduler = Scheduler(store, bundle, lateness=3_000_000, since=-1, most=500)
    scheduler.lease.seconds = 0.2
    while scheduler.step() is None or (finish and not scheduler.caught_up()):
        time.sleep(0.02)
    scheduler.give_back()


def _run(words: list[str], url: str, bundle: Bundle) -> None:
    store: Any = open_store(url)
    match words:
        case ["step", nth, kind]:
            _step(_killing(store, int(nth), kind), bundle)
        case ["sleep", word, *unfenced]:
            if unfenced:
                init = recording.Recorder.__init__
                recording.Recorder.__init__ = lambda self, store, rule, _=None: init(self, store, rule)  # type: ignore[assignment,method-assign]
            _step(_sleeping(store, word), bundle)
        case ["serve", seconds]:
            lease.Lease.__init__.__defaults__ = (float(seconds), *lease.Lease.__init__.__defaults__[1:])  # type: ignore[index]
            running.run_scheduler(store, lambda: bundle, threading.Event(), lateness=0, seconds=0.05)
        case _:
            _step(store, bundle, finish=True)


def main(url: str, folder: str) -> None:
    """Take commands until there are no more."""
    bundle = load_bundle([folder])
    for line in sys.stdin:
        words = line.split()
        pid = os.fork()
        if pid == 0:
            _run(words, url, bundle)
            os._exit(0)
        if words[0] in ("sleep", "serve"):
            print(pid, flush=True)
        else:
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


class Nursery:
    """The process that forks schedulers."""

    def __init__(self, url: str, bundle: Path) -> None:
        self.children: list[int] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.windows.nursery", url, str(bundle)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def tell(self, command: str) -> int:
        """Give a command and return what it printed: an exit code, or the id of a process."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()
        answer = int(self.process.stdout.readline())
        if command.startswith(("sleep", "serve")):
            self.children.append(answer)
        return answer


@contextmanager
def nursery(url: str, bundle: Path) -> Iterator[Nursery]:
    """Have a nursery; neither it nor any of its children is left behind."""
    made = Nursery(url, bundle)
    try:
        yield made
    finally:
        for pid in made.children:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        made.process.kill()
        made.process.communicate()


if __name__ == "__main__":
    main(*sys.argv[1:])
