"""Windowed policies as operators run them: `usageaudit up`, and `consume` with `schedule` beside it."""

from __future__ import annotations

import json
import subprocess
from contextlib import ExitStack
from queue import SimpleQueue
from typing import TYPE_CHECKING

from tests.integration.operated import COMMAND, Service, operated
from tests.strategies import MINIMAL, envelope
from tests.unit.policy.bundles import write
from usageaudit.alerts.receiving import Arrival, receiving
from usageaudit.alerts.signing import new_secret

if TYPE_CHECKING:
    from pathlib import Path

    from usageaudit.operating.port import HttpPort

DATA = "embedded:./data"
BURST = """\
id: b/burst
title: Three calls within a minute
severity: high
stage: enforce
basis:
- {document: Our rules, clause: "1"}
window: {kind: event_count, group_by: [actor.organization], over: 1m}
when: "true"
condition: value >= 3
message: "{value} calls of {actor.organization}"
"""


def _events(*seconds: int) -> str:
    """Return events of one organisation as lines of JSON, one at each of these seconds."""
    data = {**MINIMAL, "actor": {**MINIMAL.get("actor", {}), "id": "u-1", "organization": "insurer"}}
    lines = [envelope(data, id=f"e-{at}", time=f"2026-05-01T12:{at // 60:02}:{at % 60:02}Z") for at in seconds]
    return "".join(json.dumps(line) + "\n" for line in lines)


def _publish(folder: Path, *seconds: int) -> None:
    (folder / "events").write_text(_events(*seconds), encoding="utf-8")
    subprocess.run([COMMAND, "publish", "--raw", "events", "--stream", DATA], cwd=folder, check=True)


def _alerts(folder: Path, port: HttpPort, secret: str) -> str:
    """Write an alerts.yaml that tells a receiver of everything, and return its path."""
    (folder / "secret").write_text(secret, encoding="utf-8")
    hook = f"{{url: 'http://127.0.0.1:{port.port}/', secrets: [{{file: {folder / 'secret'}}}]}}"
    rest = "routes: [{to: [hook]}]\nnetwork: {allow: [127.0.0.1]}\n"
    (folder / "alerts.yaml").write_text(f"alerts: 1\ntargets: {{hook: {{webhook: {hook}}}}}\n{rest}", encoding="utf-8")
    return str(folder / "alerts.yaml")


def test_a_burst_is_found_and_told_while_everything_runs(tmp_path: Path) -> None:
    """What comes in while `usageaudit up` runs is found once, with its events, counted, and told once."""
    bundle = write(tmp_path / "b", {"bundle.yaml": "name: b", "policies/burst.yaml": BURST})
    secret, got = new_secret(), SimpleQueue[Arrival]()
    with ExitStack() as stack:
        port = stack.enter_context(receiving("127.0.0.1", 0, secret, got.put, print))
        settings = {"policies": str(bundle), "alerts": _alerts(tmp_path, port, secret)}
        service = stack.enter_context(operated(Service(tmp_path, DATA, DATA, settings, (COMMAND, "up"))))
        service.wait_ready()
        service.wait(lambda: service.total("usageaudit_window_rules", state="stepping") == 1, "the scheduler")
        _publish(tmp_path, 0, 30, 59, 100, 400)
        service.wait(lambda: service.total("usageaudit_window_findings_total") == 1, "the finding")
        asked = [COMMAND, "query", "SELECT message, length(event_refs) AS events FROM findings", "--format", "ndjson"]
        found = subprocess.run([*asked, "--store", DATA], cwd=tmp_path, check=True, capture_output=True, text=True)
        assert json.loads(found.stdout) == {"message": "3 calls of insurer", "events": 3}
        assert service.total("usageaudit_scheduler_leads") == 1
        arrival = got.get(timeout=60)
        assert (arrival.data["policy_id"], arrival.data["message"]) == ("b/burst", "3 calls of insurer")
        code, seconds = service.end()
    assert code == 0
    assert seconds < 15
    assert got.empty()


def test_a_consumer_and_a_scheduler_are_processes_of_their_own(tmp_path: Path, clickhouse_database: str) -> None:
    """On a server `consume` records and `schedule` finds; a second scheduler waits until the first has ended."""
    bundle = write(tmp_path / "b", {"bundle.yaml": "name: b", "policies/burst.yaml": BURST})
    settings = {"policies": str(bundle)}
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
    first, second = (Service(folder, DATA, clickhouse_database, settings, (COMMAND, "schedule")) for folder in folders)
    consumed = [COMMAND, "consume", "--until-caught-up", "--stream", DATA, "--store", clickhouse_database]
    with ExitStack() as stack:
        stack.enter_context(operated(first))
        first.wait_ready()
        first.wait(lambda: first.total("usageaudit_window_rules", state="stepping") == 1, "the scheduler")
        stack.enter_context(operated(second))
        _publish(tmp_path, 0, 30, 59)
        subprocess.run([*consumed, "--policies", str(bundle)], cwd=tmp_path, check=True, capture_output=True)
        _publish(tmp_path, 400)
        subprocess.run([*consumed, "--policies", str(bundle)], cwd=tmp_path, check=True, capture_output=True)
        first.wait(lambda: first.total("usageaudit_window_findings_total") == 1, "the finding")
        second.wait_ready()
        assert second.total("usageaudit_scheduler_leads") == 0
        assert first.end()[0] == 0
        second.wait(lambda: second.total("usageaudit_scheduler_leads") == 1, "taking over")
        assert second.total("usageaudit_window_findings_total") == 0
        assert second.end()[0] == 0
