"""Windowed policies as operators run them: `usageaudit up`, and `consume` with `schedule` beside it."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

from tests.integration.operated import COMMAND, Service, operated
from tests.strategies import MINIMAL, envelope
from tests.unit.policy.bundles import write

if TYPE_CHECKING:
    from pathlib import Path

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


def test_a_burst_is_found_while_everything_runs(tmp_path: Path) -> None:
    """What comes in while `usageaudit up` runs is found once, with its events, and counted in the metrics."""
    bundle = write(tmp_path / "b", {"bundle.yaml": "name: b", "policies/burst.yaml": BURST})
    service = Service(tmp_path, DATA, DATA, {"policies": str(bundle)}, (COMMAND, "up"))
    with operated(service):
        service.wait_ready()
        service.wait(lambda: service.total("usageaudit_window_rules", state="stepping") == 1, "the scheduler")
        _publish(tmp_path, 0, 30, 59, 100, 400)
        service.wait(lambda: service.total("usageaudit_window_findings_total") == 1, "the finding")
        asked = [COMMAND, "query", "SELECT message, length(event_refs) AS events FROM findings", "--format", "ndjson"]
        found = subprocess.run([*asked, "--store", DATA], cwd=tmp_path, check=True, capture_output=True, text=True)
        assert json.loads(found.stdout) == {"message": "3 calls of insurer", "events": 3}
        assert service.total("usageaudit_scheduler_leads") == 1
        code, seconds = service.end()
    assert code == 0
    assert seconds < 15


def test_a_consumer_and_a_scheduler_are_processes_of_their_own(tmp_path: Path, clickhouse_database: str) -> None:
    """On a server `consume` records and `schedule` finds; a second scheduler waits until the first has ended."""
    bundle = write(tmp_path / "b", {"bundle.yaml": "name: b", "policies/burst.yaml": BURST})
    settings = {"policies": str(bundle)}
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
    first, second = (Service(folder, DATA, clickhouse_database, settings, (COMMAND, "schedule")) for folder in folders)
    consumed = [COMMAND, "consume", "--until-caught-up", "--stream", DATA, "--store", clickhouse_database]
    with operated(first), operated(second):
        first.wait_ready()
        first.wait(lambda: first.total("usageaudit_window_rules", state="stepping") == 1, "the scheduler")
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
