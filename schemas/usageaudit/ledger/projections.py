"""Aggregates that the ledger keeps inside its own parts, so that they can never differ from its rows.

What makes the engine use one, through the views: `status` and `toStartOfHour(event_time)` are among its keys, and
filters are written in these very expressions; means are made of sums and counts; arrays are grouped whole and unfolded
outside.
"""

from __future__ import annotations

from dataclasses import dataclass

HOUR = "toStartOfHour(event_time)"
"""The hour of an event, written the one way that projections are matched by."""


@dataclass(frozen=True, slots=True)
class Projection:
    """Keys that rows are grouped by, and aggregates of each group."""

    name: str
    keys: tuple[str, ...]
    aggregates: tuple[str, ...] = ("count()",)

    @property
    def declaration(self) -> str:
        """The projection as CREATE TABLE names it."""
        keys = ", ".join(self.keys)
        return f"PROJECTION {self.name} (SELECT {keys}, {', '.join(self.aggregates)} GROUP BY {keys})"


USAGE = Projection(
    "usage_by_hour",
    (
        "status",
        HOUR,
        "application_name",
        "application_team",
        "purpose_use_case",
        "model_provider",
        "model_name",
        "outcome_status",
        "cost_currency",
    ),
    (
        "count()",
        "sum(usage_input_tokens)",
        "sum(usage_output_tokens)",
        "sum(usage_cached_input_tokens)",
        "sum(usage_reasoning_tokens)",
        "sum(cost_amount)",
    ),
)
VIOLATIONS = Projection(
    "violations_by_hour",
    (
        "status",
        HOUR,
        "actor_organization",
        "application_name",
        "model_name",
        "violated",
        "violated_severity",
        "violated_stage",
        "exempted",
        "exempted_severity",
        "exempted_stage",
    ),
)
INDETERMINATES = Projection(
    "indeterminates_by_hour", ("status", HOUR, "application_name", "indeterminate", "indeterminate_missing")
)
PROJECTIONS: tuple[Projection, ...] = (USAGE, VIOLATIONS, INDETERMINATES)
"""Every projection of the ledger."""
