"""A service under the web servers that services run under: gunicorn, which forks, and uvicorn, which starts anew."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest

from tests.servers.process import free_ports
from tests.topics import stored
from usageaudit.publisher.spool.folder import statuses

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.servers.kafka import Kafka

REQUESTS = 90
WORKERS = 3
SERVICE = """
import os
from usageaudit.publisher import Publisher

EVENT = {"operation": "chat", "model": {"provider": "openai", "name": "gpt-4o"}, "actor": {"id": "u"},
         "application": {"name": "claims"}}
publisher = Publisher(os.environ["STREAM"], source="/s", spool=os.environ["SPOOL"])


def wsgi(environ, start_response):
    publisher.emit(EVENT, id=environ["PATH_INFO"])
    start_response("200 OK", [])
    return [str(os.getpid()).encode()]


async def asgi(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    await publisher.aemit(EVENT, id=scope["path"], durable=True)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
"""
SERVERS = {
    "gunicorn": ("gunicorn", f"--workers={WORKERS}", "--bind=127.0.0.1:{port}", "service:wsgi"),
    "gunicorn, loaded before it forks": (
        *("gunicorn", "--preload", f"--workers={WORKERS}", "--bind=127.0.0.1:{port}", "service:wsgi"),
    ),
    "uvicorn": ("uvicorn", f"--workers={WORKERS}", "--host=127.0.0.1", "--port={port}", "service:asgi"),
}


@contextmanager
def _serving(command: Sequence[str], folder: Path, stream: str, port: int) -> Iterator[None]:
    """Run a server for the block, and end it as an operator does."""
    (folder / "service.py").write_text(SERVICE, encoding="utf-8")
    program = str(Path(sys.executable).with_name(command[0]))
    arguments = [part.format(port=port) for part in command[1:]]
    environment = {**os.environ, "STREAM": stream, "SPOOL": str(folder / "spool"), "PYTHONPATH": str(folder)}
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([program, *arguments], cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        _until_answered(port, server, folder)
        yield
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) in (0, -signal.SIGTERM), (folder / "log").read_text()
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()


def _until_answered(port: int, server: subprocess.Popen[bytes], folder: Path) -> None:
    ends = time.monotonic() + 60
    while time.monotonic() < ends and server.poll() is None:
        try:
            _ask(port, "first")
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
        else:
            return
    raise AssertionError((folder / "log").read_text())


def _ask(port: int, name: str) -> int:
    """Send a request, and return the id of the process that answered it."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/{name}", timeout=30) as answer:
        return int(answer.read())


@pytest.mark.parametrize("command", SERVERS.values(), ids=SERVERS.keys())
def test_workers_of_a_web_server(command: Sequence[str], kafka: Kafka, topic: str, tmp_path: Path) -> None:
    """Whatever process answers a request, the event of it arrives once, and a server that is ended leaves none."""
    (port,) = free_ports(1)
    with (
        _serving(command, tmp_path, f"{kafka.url}?topic={topic}", port),
        ThreadPoolExecutor(8) as threads,
    ):
        asked, answered = 0, set[int]()
        ends = time.monotonic() + 60
        while len(answered) < 2 and time.monotonic() < ends:  # which worker takes a request is up to the kernel
            answered |= set(threads.map(lambda number: _ask(port, str(number)), range(asked, asked + REQUESTS)))
            asked += REQUESTS
    assert len(answered) > 1
    assert [one for one in statuses(tmp_path / "spool") if one.events] == []
    ids = sorted(orjson.loads(record.value)["id"] for record in stored(kafka, topic))
    assert ids == sorted(["/first", *(f"/{number}" for number in range(asked))])
