"""The shipped dispatcher, `usageaudit alerts run`, as a process, and a receiver that notes when it is told."""

from __future__ import annotations

import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.endurance.consuming import PROGRAM, environment
from usageaudit.alerts.receiving import receiving
from usageaudit.alerts.signing import new_secret

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from usageaudit.alerts.receiving import Arrival


@dataclass(slots=True)
class Told:
    """What arrived: when, in seconds since 1970, and what."""

    pid: int = 0
    arrivals: list[tuple[float, Arrival]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def arrived(self, arrival: Arrival) -> None:
        """Note an arrival."""
        self.arrivals.append((time.time(), arrival))


def policies(folder: Path, when: str, dedup_by: str) -> Path:
    """Write a bundle with one policy whose violations are gathered by a field for an hour."""
    (folder / "policies").mkdir(parents=True)
    (folder / "bundle.yaml").write_text("name: own\n")
    (folder / "policies" / "one.yaml").write_text(
        f"id: own/one\ntitle: one\nseverity: high\nwhen: '{when}'\nmessage: one\n"
        f"alert: {{dedup_by: [{dedup_by}], for: 1h}}\n"
    )
    return folder


@contextmanager
def alerting(folder: Path, store: str, bundle: Path) -> Iterator[Told]:
    """Run a dispatcher between a store and a receiver in this process; it is gone when the block ends."""
    told, secret = Told(), new_secret()
    with receiving("127.0.0.1", 0, secret, told.arrived, told.refused.append) as port:
        (folder / "alerts.yaml").write_text(
            "alerts: 1\n"
            f"targets: {{hook: {{webhook: {{url: 'http://127.0.0.1:{port.port}/', secrets: [{{env: HOOK}}]}}}}}}\n"
            "routes: [{match: {severity: [high]}, to: [hook]}]\n"
            "network: {allow: [127.0.0.1]}\n"
        )
        settings = environment(store=store, policies=str(bundle), alerts=str(folder / "alerts.yaml"))
        with (folder / "alerts.log").open("w") as log:
            process = subprocess.Popen(
                [PROGRAM, "alerts", "run"], env=settings | {"HOOK": secret}, cwd=folder, stdout=log, stderr=log
            )
        told.pid = process.pid
        try:
            yield told
        finally:
            process.kill()
            process.wait()
