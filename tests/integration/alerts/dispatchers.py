"""Dispatchers as processes of their own that are killed at a chosen step.

    python -m tests.integration.alerts.dispatchers STORE BUNDLE ALERTS

reads commands from its input, one a line, forks a dispatcher for each, prints its id, and how it ended and where:

    store N before|after    killed at its N-th statement: before it is sent, or after its answer came
    target N before|after   killed at its N-th delivery: before it is sent, or after its answer came
    answer                  killed by the receiver, which knows its process id, before it answers
    finish                  steps until nothing is left to do
    forget N                killed before its N-th delivery, and
    forgotten               steps, by a dispatcher that does not look for what was left unfinished: the control
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usageaudit.alerts.config import read_alerts
from usageaudit.alerts.dispatcher import Dispatcher, deliveries
from usageaudit.alerts.targets.opening import open_target
from usageaudit.policy import load_bundle
from usageaudit.stores.address import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[3]
LEASE_SECONDS = 0.05
_TABLES = ("alert_decisions", "alert_deliveries_log", "alert_progress", "leases", "fence", "findings_log", "ledger")


class _Deadly:
    """Kills this process at the N-th of its calls, before or after it; says at what."""

    def __init__(self, nth: str, moment: str, say: int) -> None:
        self.left, self.moment, self.say = int(nth), moment, say

    def around(self, what: str, call: Callable[[], Any]) -> Any:
        """Call something, if the process lives."""
        self.left -= 1
        if self.left == 0 and self.moment == "before":
            self._die(f"before {what}")
        found = call()
        if self.left == 0 and self.moment == "after":
            self._die(f"after {what}")
        return found

    def _die(self, where: str) -> None:
        os.write(self.say, where.encode())
        os.kill(os.getpid(), signal.SIGKILL)


class _Store:
    """A store whose statements are deadly."""

    def __init__(self, store: Any, deadly: _Deadly) -> None:
        self._store, self._deadly = store, deadly

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def execute(self, sql: str, *arguments: Any, **named: Any) -> Any:
        """Run a statement."""
        return self._deadly.around(_told(sql), lambda: self._store.execute(sql, *arguments, **named))

    def look_up(self, sql: str, *arguments: Any) -> Any:
        """Run a look-up."""
        return self._deadly.around("a look at alert_decisions", lambda: self._store.look_up(sql, *arguments))

    def insert(self, insert: Any) -> None:
        """Write a block."""
        self._deadly.around(f"a block of {insert.table}", lambda: self._store.insert(insert))


class _Target:
    """A target whose deliveries are deadly."""

    def __init__(self, target: Any, deadly: _Deadly) -> None:
        self._target, self._deadly = target, deadly

    def deliver(self, notification: Any) -> Any:
        """Deliver."""
        return self._deadly.around("a delivery", lambda: self._target.deliver(notification))

    def close(self) -> None:
        """Close it."""
        self._target.close()


def _told(sql: str) -> str:
    kind = "a row of" if sql.lstrip().startswith("INSERT") else "a look at"
    return f"{kind} {min(_TABLES, key=lambda table: sql.find(table) if table in sql else len(sql))}"


def _run(words: list[str], url: str, folder: str, alerts: str, say: int) -> None:
    store: Any = open_store(url)
    config = read_alerts(Path(alerts))
    targets: dict[str, Any] = {name: open_target(one, config.network) for name, one in config.targets.items()}
    match words:
        case ["store", nth, moment]:
            store = _Store(store, _Deadly(nth, moment, say))
        case ["target", nth, moment]:
            deadly = _Deadly(nth, moment, say)
            targets = {name: _Target(one, deadly) for name, one in targets.items()}
        case ["forget", nth]:
            deadly = _Deadly(nth, "before", say)
            targets = {name: _Target(one, deadly) for name, one in targets.items()}
        case ["forgotten"]:
            deliveries.pending = lambda *_: []
    dispatcher = Dispatcher(store, config, load_bundle([folder]), targets, lease_seconds=LEASE_SECONDS)
    idle = 0
    while idle < 2:
        done, state = dispatcher.step(), dispatcher.state()
        idle = idle + 1 if done == 0 and not state.waiting + state.retrying else 0
    dispatcher.close()


def main(url: str, folder: str, alerts: str) -> None:
    """Take commands until there are no more."""
    for line in sys.stdin:
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what it logs
            _run(line.split(), url, folder, alerts, write)
            os._exit(0)
        os.close(write)
        print(pid, flush=True)
        with os.fdopen(read) as said:
            where = said.readline().strip()
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), where, flush=True)


class Dispatchers:
    """The process that forks dispatchers."""

    def __init__(self, url: str, bundle: Path, alerts: Path, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.alerts.dispatchers", url, str(bundle), str(alerts)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | environment,
        )  # fmt: skip

    def tell(self, command: str, started: Callable[[int], None] = lambda _: None) -> tuple[int, str]:
        """Give a command, and return the exit code and where it was killed; `started` is told the process id."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()
        started(int(self.process.stdout.readline()))
        code, _, where = self.process.stdout.readline().strip().partition(" ")
        return int(code), where


@contextmanager
def dispatchers(url: str, bundle: Path, alerts: Path, environment: dict[str, str]) -> Iterator[Dispatchers]:
    """Have such a process; it is not left behind."""
    made = Dispatchers(url, bundle, alerts, environment)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.communicate()


if __name__ == "__main__":
    main(*sys.argv[1:])
