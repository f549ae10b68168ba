"""The scenarios of the code of conduct: the whole events among the shipped pack's own tests."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import yaml

from usageaudit.demo.week import SimulatedEvent
from usageaudit.events.times import to_micros

if TYPE_CHECKING:
    from collections.abc import Sequence

PACK = "azure-openai-code-of-conduct"
SOURCE = "//scenarios/vision-desk"


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario at one moment, and the policies that its event violates and leaves undecided, as the pack says."""

    event: SimulatedEvent
    violated: frozenset[str]
    indeterminate: frozenset[str]


def scenarios() -> list[Scenario]:
    """Return every scenario, once before and once after the change of the first of May 2024."""
    folder = files("usageaudit.policy") / "packs" / PACK
    clauses = [file.name.removesuffix(".yaml") for file in (folder / "policies").iterdir()]
    tests = yaml.safe_load((folder / "tests" / "scenarios.yaml").read_text(encoding="utf-8"))
    return [
        _scenario(test["name"].partition(":")[0], test["event"], expected, clauses)
        for test in tests
        for expected in test["expect"]
    ]


def _scenario(name: str, data: dict[str, Any], expected: dict[str, Any], clauses: Sequence[str]) -> Scenario:
    time = expected["time"]
    verdicts = expected["verdicts"]

    def having(verdict: str) -> frozenset[str]:
        return frozenset(
            f"{PACK}/{clause}" for clause in clauses if verdicts.get(clause, verdicts.get("others")) == verdict
        )

    event = SimulatedEvent(to_micros(time), SOURCE, f"{name}-{time:%Y-%m}", data)
    return Scenario(event, having("violation"), having("indeterminate"))
