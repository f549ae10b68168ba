"""The dashboards of deploy/grafana, read as Grafana reads them, and the macros of its ClickHouse plug-in."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.deploy.deployed import DEPLOY

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator
    from pathlib import Path

CLICKHOUSE, PROMETHEUS = "grafana-clickhouse-datasource", "prometheus"
_TIME_FILTER = re.compile(r"\$__timeFilter\(([^()]+)\)")


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel of a dashboard: its kind, and its questions as they were written, in SQL or PromQL."""

    dashboard: str
    title: str
    kind: str
    language: str
    questions: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.dashboard}: {self.title}"


def dashboards() -> dict[str, dict[str, Any]]:
    """Return the dashboards by the names of their files."""
    folder: Path = DEPLOY / "grafana" / "dashboards"
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.json"))}


def panels() -> list[Panel]:
    """Return the panels of all dashboards."""
    return [panel for name, board in dashboards().items() for panel in _panels(name, board)]


def _panels(name: str, board: dict[str, Any]) -> Iterator[Panel]:
    for panel in board["panels"]:
        language = panel["datasource"]["type"]
        key = "rawSql" if language == CLICKHOUSE else "expr"
        questions = tuple(target[key] for target in panel["targets"])
        yield Panel(name, panel["title"], panel["type"], language, questions)


def expanded(sql: str, start: dt.datetime, end: dt.datetime) -> str:
    """Return SQL with its macros as the plug-in expands them for a time range; refuses macros that are not known.

    See pkg/macros/macros.go of https://github.com/grafana/clickhouse-datasource: times of whole seconds since 1970.
    """
    since, until = (f"toDateTime({int(time.timestamp())})" for time in (start, end))
    done = _TIME_FILTER.sub(lambda found: f"{found[1]} >= {since} AND {found[1]} <= {until}", sql)
    done = done.replace("$__fromTime", since).replace("$__toTime", until)
    if "$" in done:
        raise ValueError(f"a macro or variable that is not known: {sql}")
    return done
