"""The alerts of deploy/prometheus, and what they and the dashboards ask of Prometheus."""

from __future__ import annotations

from typing import Any

import promql_parser
import yaml

from tests.deploy.deployed import DEPLOY
from tests.deploy.panels import PROMETHEUS, panels

ALERTS: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text(encoding="utf-8"))
RULES: list[dict[str, Any]] = [rule for group in ALERTS["groups"] for rule in group["rules"]]
ASKED = [question for panel in panels() if panel.language == PROMETHEUS for question in panel.questions]


def selected(expression: str) -> list[Any]:
    """Return the selectors of an expression of PromQL, which have a name and matchers of labels.

    Raises:
        ValueError: it is none.
    """
    found: list[Any] = []

    def visit(node: Any) -> None:
        if type(node).__name__ == "VectorSelector":
            found.append(node)

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found


def names() -> set[str]:
    """Return the names of all metrics that alerts and dashboards ask for."""
    return {one.name for text in [rule["expr"] for rule in RULES] + ASKED for one in selected(text)}
