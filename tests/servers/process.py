"""One server process: started, awaited, paused, killed, and started again on the same data and the same ports."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 30.0
POLL_S = 0.05
LOG_LINES = 40
PORTS = range(20_000, 32_000)

# The parent-death signal of a child (child.py) is sent when the thread that started it ends, not only when the process
# does. Every server is therefore started by this thread, which lives as long as the interpreter.
_STARTER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="server-starter")


class ServerError(Exception):
    """A server did not start, stop or stay; the message ends with the last lines of its log."""


def free_ports(count: int) -> list[int]:
    """Return as many different TCP ports of 127.0.0.1 on which nobody listens.

    They lie below the ports that systems give to outgoing connections: a client that keeps trying to reach a server
    that is down could otherwise be given the server's own port, and connect to itself.
    """
    free: list[int] = []
    for port in random.sample(PORTS, k=len(PORTS)):
        if len(free) == count:
            return free
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            free.append(port)
    raise ServerError(f"found only {len(free)} free ports of 127.0.0.1 in {PORTS}")


class Server(ABC):
    """A server with its data in one folder. As a context manager it is started on entry and stopped on exit."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def _prepare(self) -> tuple[Sequence[str], Mapping[str, str]]:
        """Write what the server needs into the data folder; return its command and what is added to the environment."""

    @abstractmethod
    def _answers(self) -> bool:
        """Say whether the server does its work already; called again and again until it does."""

    @property
    def log(self) -> Path:
        """The file with everything the server printed, over all its starts."""
        return self.data_dir / "server.log"

    @property
    def pid(self) -> int:
        """The id of the running process.

        Raises:
            ServerError: it is not running.
        """
        if self._process is None or self._process.poll() is not None:
            raise ServerError(self._with_log(f"{type(self).__name__} is not running"))
        return self._process.pid

    def start(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start the server and wait until it answers; data and ports are those of an earlier start.

        Raises:
            UnavailableError: the machine lacks what the server is made of.
            ServerError: it ended, or did not answer in time (and is killed).
        """
        if self._process is not None:
            raise ServerError(f"{type(self).__name__} was started already, with process id {self._process.pid}")
        self.data_dir.mkdir(parents=True, exist_ok=True)
        command, environment = self._prepare()
        self._process = _STARTER.submit(self._spawn, command, environment).result()
        try:
            self._await_answer(timeout_s)
        except BaseException:  # an interrupt of the test run, too
            self.kill()
            raise

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Ask the server to end and wait for it; kill it when it takes too long. It need not run."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        self._process.send_signal(signal.SIGCONT)  # if it is paused, the first signal waits for the second
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def kill(self) -> None:
        """End the process as a crash would (SIGKILL) and wait until it is gone. It need not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Freeze the process (SIGSTOP): its connections stay open and nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused process go on (SIGCONT)."""
        os.kill(self.pid, signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _spawn(self, command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        child = [sys.executable, "-I", "-S", str(Path(__file__).with_name("child.py")), str(os.getpid())]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*child, *command],
                cwd=self.data_dir,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,  # Ctrl-C in a terminal ends the test run, and that stops the server in order
            )

    def _await_answer(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while self.pid and not self._answers():
            if time.monotonic() > deadline:
                raise ServerError(self._with_log(f"{type(self).__name__} did not answer within {timeout_s} s"))
            time.sleep(POLL_S)

    def _with_log(self, message: str) -> str:
        if not self.log.exists():
            return message
        last = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
        return "\n".join([f"{message}; the end of {self.log}:", *last])


def accepts_connections(port: int) -> bool:
    """Say whether something listens on this port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0
