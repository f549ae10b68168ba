"""The process of a service on embedded data: a loop that hangs, signals, the first process of a container."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client.openmetrics import parser

from tests.conftest import skip
from tests.documents import ROOT, code_blocks
from tests.integration.operated import COMMAND, Service, operated
from tests.strategies import MINIMAL, envelope
from tests.unit.policy.bundles import policy, write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client.core import Metric as Family

# Its parameter has no type.
parse_openmetrics: Callable[[str], Iterable[Family]] = parser.text_string_to_metric_families
DATA = "embedded:./data"
# ptrace(2), for one thread of a process, and not all of them as a signal would
PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH, WALL = 0x4206, 0x4207, 17, 0x40000000
PUBLISHER = """
import sys
from tests.strategies import MINIMAL
from usageaudit.publisher import Publisher
Publisher("kafka://127.0.0.1:1", source="/s", spool=sys.argv[1]).emit(MINIMAL, durable=True)
sys.stdin.read()
"""
"""Publishes an event for a broker that is away, and goes on living."""
PAST = "2026-01-01T00:00:00Z"


def _service(folder: Path, *before: str, **settings: str) -> Service:
    return Service(folder, DATA, DATA, settings, (*before, COMMAND, "up"))


@contextmanager
def _standing_still(thread: int) -> Iterator[None]:
    """Stop one thread of a child while the block runs."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(PTRACE_SEIZE, thread, None, None) != 0:
        skip(f"this machine lets nobody stop a thread: {os.strerror(ctypes.get_errno())}")
    libc.ptrace(PTRACE_INTERRUPT, thread, None, None)
    os.waitpid(thread, WALL)
    try:
        yield
    finally:
        libc.ptrace(PTRACE_DETACH, thread, None, None)


def _hangs_when_still(service: Service) -> bool:
    """Stop the main thread until it counts as hanging; False where it held what the port needs, too."""
    with _standing_still(service.running.pid):
        if service.status("/livez") == 0:
            return False
        service.wait(lambda: service.status("/livez") == 503, "noticing that the loop hangs")
        answer = json.loads(service.ask("/livez")[1])
        assert answer["alive"] is False
        assert answer["silent_seconds"] >= 1
        assert any("no sign of life" in reason for reason in service.reasons())
    return True


@pytest.mark.skipif(sys.platform != "linux", reason="threads are stopped as Linux does it")
def test_a_loop_that_hangs_is_not_alive(tmp_path: Path) -> None:
    """When the main thread stands still /livez fails within the stated time, and is well again when it goes on."""
    with operated(_service(tmp_path, hung_seconds="1")) as service:
        service.wait_ready()
        service.wait(lambda: _hangs_when_still(service), "a moment at which it can be stopped alone")
        service.wait(lambda: service.status("/livez") == 200, "going on")
        service.wait_ready()
        code, _ = service.end()
    assert code == 0


def test_a_reload_an_expiry_and_spools_are_counted(tmp_path: Path) -> None:
    """Policies read again, those that have errors, exceptions that expired, disks and spools are in the metrics."""
    exception = {"id": "EX-1", "when": "true", "approved_by": "C. Officer", "reason": "test", "expires": PAST}
    texts = {"bundle.yaml": "name: b", "policies/a.yaml": policy(pack="b", exceptions=[exception])}
    bundle, spool = write(tmp_path / "b", texts), tmp_path / "spools"
    with operated(_service(tmp_path, policies=str(bundle), spool=str(spool))) as service:
        service.wait_ready()
        service.wait(lambda: service.total("usageaudit_findings_total", kind="exception_expired") == 1, "the expiry")
        assert service.total("usageaudit_expired_exceptions") == 1
        _change(service, bundle / "policies" / "a.yaml", policy(pack="b"), "loaded")
        _change(service, bundle / "policies" / "a.yaml", "}", "failed")
        assert service.total("usageaudit_expired_exceptions") == 0
        assert service.total("usageaudit_disk_size_bytes") == 3 * shutil.disk_usage(tmp_path).total
        assert service.total("process_resident_memory_bytes") > 0
        _watch_spools(service, spool)


def _watch_spools(service: Service, spool: Path) -> None:
    """Check what is seen of a spool that waits for a broker, of a torn one, and of the first when its owner is dead."""
    before = time.time()
    publisher = [sys.executable, "-c", PUBLISHER, str(spool)]
    with subprocess.Popen(publisher, cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as owner:
        service.wait(lambda: service.total("usageaudit_spool_events") == 1, "seeing the spool")
        (spool / "torn.sqlite3").write_bytes(b"torn")
        service.wait(lambda: service.total("usageaudit_spools", state="damaged") == 1, "seeing that one is torn")
        assert service.total("usageaudit_spools", state="owned") == 1
        assert service.total("usageaudit_spool_bytes") > 0
        assert before - 1 < service.total("usageaudit_spool_oldest_timestamp_seconds") < time.time()
        owner.kill()
    service.wait(lambda: service.total("usageaudit_spools", state="orphaned") == 1, "seeing that its owner is gone")
    assert service.total("usageaudit_spool_events") == 1


def _change(service: Service, file: Path, text: str, result: str) -> None:
    """Change a policy, ask for it to be read, and wait until that is counted."""
    file.write_text(text, encoding="utf-8")
    service.running.send_signal(signal.SIGHUP)
    service.wait(lambda: service.total("usageaudit_policy_reloads_total", result=result) == 1, result)


def _child_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()[0])


def _as_first_process() -> list[str]:
    """Return what runs a command as the first process of a namespace, as in a container."""
    command = ["unshare", "--pid", "--fork", "--kill-child"]
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], capture_output=True).returncode != 0:
        skip("needs the right to make a namespace of processes (unshare --pid)")
    return command


def test_the_first_process_of_a_container_ends_when_told_to(tmp_path: Path) -> None:
    """As process 1, which the kernel shields from signals that it does not handle, SIGTERM ends `up` with 0."""
    with operated(_service(tmp_path, *_as_first_process())) as service:
        service.wait_ready()
        os.kill(_child_of(service.running.pid), signal.SIGTERM)
        assert service.running.wait(60) == 0


def test_without_a_handler_the_first_process_does_not_end(tmp_path: Path) -> None:
    """The control: a program without one reads on after SIGTERM, to the end of its input."""
    ready, code = tmp_path / "ready", "import pathlib, sys; pathlib.Path('ready').touch(); sys.stdin.read()"
    command = [*_as_first_process(), sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, cwd=tmp_path) as process:
        while not ready.exists():
            assert process.poll() is None
        os.kill(_child_of(process.pid), signal.SIGTERM)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == 0


def test_a_port_that_is_taken_is_an_error_only_where_it_was_chosen(tmp_path: Path) -> None:
    """A second service on one machine: with a chosen port it ends with 2, off is no port, and neither is a warning."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with operated(_service(tmp_path / "one")) as service:
        service.wait_ready()
        second = Service(tmp_path / "two", DATA, DATA, command=(COMMAND, "up"), port=service.port)
        with operated(second):
            assert second.running.wait(60) == 2
        said = (second.folder / "log").read_text(encoding="utf-8")
        assert said.startswith(f"error: http: can't listen on 127.0.0.1:{service.port}: Address already in use")
        with operated(_service(tmp_path / "two", http="off")) as quiet:
            quiet.wait(lambda: bool(quiet.said("partition taken over")), "taking over without a port")
            assert quiet.end()[0] == 0
        assert not quiet.said("no port for /livez, /readyz and /metrics")


def test_what_the_document_shows_is_what_is_answered(tmp_path: Path) -> None:
    """The lines of docs/metrics.md get answers as shown there, and OpenMetrics where that is asked for."""
    if shutil.which("curl") is None:
        skip("needs curl")
    blocks = code_blocks(ROOT / "docs" / "metrics.md")
    [commands] = [block for block in blocks if block.language == "sh"]
    alive, unready = (json.loads(block.text) for block in blocks if block.language == "json")
    with operated(_service(tmp_path)) as service:
        service.wait_ready()
        (tmp_path / "event.ndjson").write_text(json.dumps(envelope(MINIMAL)) + "\n", encoding="utf-8")
        subprocess.run([COMMAND, "publish", "event.ndjson"], env=service.environment, cwd=tmp_path, check=True)
        service.wait(lambda: service.total("usageaudit_records_total", status="accepted") == 1, "recording")
        given = [line.replace(":9464/", f":{service.port}/") for line in commands.lines]
        assert all(given[place] != line for place, line in enumerate(commands.lines))
        livez, readyz, metrics = (_types(line) for line in given)
        openmetrics = _types(given[2].replace("curl", "curl -H 'Accept: application/openmetrics-text; version=1.0.0'"))
    assert set(json.loads(livez)) == set(alive)
    assert json.loads(livez)["alive"] is alive["alive"] is True
    assert json.loads(readyz) == {"ready": True, "reasons": []}
    assert set(unready) == {"ready", "reasons"}
    assert 'usageaudit_records_total{status="accepted"} 1.0' in metrics
    names = {family.name for family in parse_openmetrics(openmetrics)}
    assert {"usageaudit_records", "process_cpu_seconds"} <= names


def _types(line: str) -> str:
    return subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, check=True).stdout
