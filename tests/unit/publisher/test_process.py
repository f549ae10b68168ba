"""The publisher and its process: how it is imported, forked, ended and killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.publisher.conftest import AwayStream, Published

PREAMBLE = """
import os, signal, sys, threading, time
from usageaudit.publisher import Publisher
EVENT = {"operation": "chat", "model": {"provider": "openai", "name": "gpt-4o"}, "actor": {"id": "u"},
         "application": {"name": "claims"}}
publisher = Publisher(sys.argv[1], source="/s", max_queued=100_000)
"""
HEAVY = ("kafka", "clickhouse_driver", "chdb", "pyarrow", "typer", "rich", "pydantic", "yaml", "asyncio")


def _start(script: str, url: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PREAMBLE + script, url]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _run(script: str, url: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PREAMBLE + script, url]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_importing_it_imports_little() -> None:
    """A service that imports the publisher does not import clients of servers, the command line or pydantic."""
    script = f"import sys, usageaudit.publisher, usageaudit.events; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_emitting_imports_no_more_than_the_stream_needs(url: str) -> None:
    """Publishing a well-formed event to the embedded stream needs neither Kafka's client nor pydantic."""
    done = _run(f"publisher.emit(EVENT, durable=True); print([m for m in {HEAVY} if m in sys.modules])", url)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("ending", ["", "sys.exit(3)", "raise ValueError", "signal.raise_signal(signal.SIGINT)"])
def test_a_process_that_ends_sends_what_it_has(url: str, published: Callable[..., Published], ending: str) -> None:
    """However the interpreter ends, what was emitted is in the stream, and nothing is logged about it."""
    done = _run(f"for _ in range(5_000): publisher.emit(EVENT)\n{ending}", url)
    assert "not acknowledged" not in done.stderr
    assert [event.data.publisher.sequence for event in published()] == list(range(1, 5_001))


def test_a_process_that_ends_while_the_stream_is_away(away: AwayStream) -> None:
    """The end of the process waits 5 seconds for the stream and no more, and says how many events were not sent."""
    script = """
import logging
logging.basicConfig(format="%(message)s")
for _ in range(11): publisher.emit(EVENT)
"""
    started = time.monotonic()
    done = _run(script, away.url)
    assert done.returncode == 0
    assert "11 events were not acknowledged by the stream before the process ended" in done.stderr
    assert 5 <= time.monotonic() - started < 30


def test_what_a_durable_emit_returned_outlives_a_kill(url: str, published: Callable[..., Published]) -> None:
    """Every event whose durable emit returned before kill -9 is in the stream, once, though many were on the way."""
    script = """
def plainly():
    while True:
        publisher.emit(EVENT)
        time.sleep(0.0001)
threading.Thread(target=plainly, daemon=True).start()
while True:
    print(publisher.emit(EVENT, durable=True), flush=True)
"""
    with _start(script, url) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        said = [child.stdout.readline().strip() for _ in range(60)]
        child.send_signal(signal.SIGKILL)
        said += child.stdout.read().split("\n")[:-1]
    arrived = [event.id for event in published()]
    assert set(said) <= set(arrived)
    assert len(set(arrived)) == len(arrived)


def test_a_fork_shares_nothing(away: AwayStream, published: Callable[..., Published]) -> None:
    """A child starts with an empty queue, an instance and numbers of its own; both ship what they emitted, once."""
    script = """
parents = [publisher.emit(EVENT) for _ in range(100)]
read, write = os.pipe()
child = os.fork()
if child == 0:
    assert publisher.stats.queued == publisher.stats.emitted == 0
    for _ in range(50): publisher.emit(EVENT, id=f"child-{_}")
    os.write(write, b"x")
    sys.exit(1 if publisher.close(30) else 0)
os.read(read, 1)
print("forked", flush=True)
assert publisher.close(30) == 0
assert os.waitpid(child, 0)[1] == 0
"""
    with _start(script, away.url) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline() == "forked\n", child.stderr.read()
        away.come_back()
        errors = child.stderr.read()
    assert child.returncode == 0, errors
    numbers = defaultdict(list)
    for event in published(away.folder):
        numbers[event.data.publisher.instance].append((event.data.publisher.sequence, event.id))
    parent, forked = sorted(numbers.values(), key=len, reverse=True)
    assert [number for number, _ in parent] == list(range(1, 101))
    assert forked == [(number + 1, f"child-{number}") for number in range(50)]


def test_a_fork_that_goes_unnoticed_doubles(away: AwayStream, published: Callable[..., Published]) -> None:
    """Negative control: where the publisher does not start over in the child, the parent's queue is shipped twice."""
    script = """
import usageaudit.publisher.records
usageaudit.publisher.records.call_in_child = lambda method: None
publisher = Publisher(sys.argv[1], source="/s")
for _ in range(10): publisher.emit(EVENT)
print("emitted", flush=True)
sys.stdin.readline()
child = os.fork()
if child:
    os.waitpid(child, 0)
publisher.emit(EVENT)
publisher.close(30)
"""
    command = [sys.executable, "-c", PREAMBLE + script, away.url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "emitted\n"
        away.come_back()
        child.stdin.write("go\n")
        child.stdin.flush()
        child.wait()
    arrived = [event.id for event in published(away.folder)]
    assert len(arrived) > len(set(arrived))


def test_a_signal_handler_that_emits(url: str, published: Callable[..., Published]) -> None:
    """A signal handler may emit whatever its thread is doing at that moment, emitting included."""
    script = """
signal.signal(signal.SIGALRM, lambda *_: publisher.emit(EVENT, id="from-handler"))
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
for _ in range(20_000): publisher.emit(EVENT)
signal.setitimer(signal.ITIMER_REAL, 0)
assert publisher.close(30) == 0
"""
    done = _run(script, url)
    assert done.returncode == 0, done.stderr
    ids = [event.id for event in published()]
    assert len(ids) - ids.count("from-handler") == 20_000
    assert "from-handler" in ids


def test_forking_in_the_midst_of_it(url: str, published: Callable[..., Published]) -> None:
    """Forks at any moment, while threads emit and the sender appends, hang nothing and lose and double nothing."""
    script = """
def emit(name, count):
    for n in range(count): publisher.emit(EVENT, id=f"{name}-{n}")
threads = [threading.Thread(target=emit, args=(f"t{n}", 2_000)) for n in range(2)]
for thread in threads: thread.start()
children = []
for n in range(8):
    child = os.fork()
    if child == 0:
        emit(f"c{n}", 50)
        os._exit(1 if publisher.close(30) else 0)
    children.append(child)
for thread in threads: thread.join()
assert publisher.close(30) == 0
assert all(os.waitpid(child, 0)[1] == 0 for child in children)
"""
    done = _run(script, url)
    assert done.returncode == 0, done.stderr
    arrived = [event.id for event in published()]
    expected = {f"t{n}-{m}" for n in range(2) for m in range(2_000)} | {
        f"c{n}-{m}" for n in range(8) for m in range(50)
    }
    assert len(arrived) == len(expected)
    assert set(arrived) == expected


def test_multiprocessing_children(url: str, tmp_path: Path, published: Callable[..., Published]) -> None:
    """Workers of multiprocessing emit with the publisher they inherited; those that close it lose nothing."""
    script = """
import multiprocessing
def work(name):
    with publisher:
        for n in range(20): publisher.emit(EVENT, id=f"{name}-{n}")
publisher.emit(EVENT, durable=True)
context = multiprocessing.get_context("fork")
workers = [context.Process(target=work, args=(name,)) for name in "abc"]
for worker in workers: worker.start()
for worker in workers: worker.join()
assert [worker.exitcode for worker in workers] == [0, 0, 0]
"""
    done = _run(script, url)
    assert done.returncode == 0, done.stderr
    assert len(published()) == 61
