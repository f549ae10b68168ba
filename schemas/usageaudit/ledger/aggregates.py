"""Views that count: by hour and by day. The ledger's projections answer them, so they stay small however it grows."""

from __future__ import annotations

from usageaudit.ledger.projections import HOUR
from usageaudit.ledger.view import Output, View
from usageaudit.ledger.views import ACCEPTED

_HOUR = Output("hour", "start of the hour of `event_time`, UTC")
_DAY = Output("day", "day of `event_time`, UTC")

_USAGE_KEYS = (
    Output("application_name", "application that called the model"),
    Output("model_provider", "provider of the model"),
    Output("model_name", "model that was requested"),
    Output("outcome_status", "ok, error, blocked or filtered; NULL where the events do not say"),
    Output("cost_currency", "currency of `cost`; NULL where the events name none"),
)
_USAGE_SUMS = (
    Output("events", "uses of the model"),
    Output("input_tokens", "tokens in, cached ones included; NULL where no event gives them"),
    Output("output_tokens", "tokens out, reasoning included; NULL where no event gives them"),
    Output("cached_input_tokens", "the part of `input_tokens` that came from a cache; NULL where no event gives it"),
    Output("reasoning_tokens", "the part of `output_tokens` spent on reasoning; NULL where no event gives it"),
    Output("cost", "sum of the costs in `cost_currency`, a decimal; NULL where no event gives any"),
    Output("failed", "uses whose outcome is error; blocked and filtered ones did not fail"),
)
_VIOLATION_KEYS = (
    Output("policy_id", "policy, as pack/clause"),
    Output("severity", "info, low, medium, high or critical; empty for indeterminates, of which none is recorded"),
    Output("stage", "enforce or shadow; empty for indeterminates, of which none is recorded"),
    Output("application_name", "application of the events; empty for findings"),
)
_VIOLATION_SUMS = (
    Output("violations", "violations, findings of effect violation included"),
    Output("exempted", "violations under an exception"),
    Output("indeterminate", "events for which the policy could not be decided"),
)


def _by_day(hourly: View, keys: tuple[Output, ...], sums: tuple[Output, ...]) -> View:
    """Return the view of the days of an hourly one, whose sums are the sums of the hours'."""
    names = ", ".join(key.name for key in keys)
    totals = ", ".join(f"sum(h.{total.name}) AS {total.name}" for total in sums)
    return View(
        name=hourly.name.replace("hourly", "daily"),
        row=hourly.row.replace("an hour", "a day"),
        columns=(_DAY, *keys, *sums),
        source=f"""FROM
(
    SELECT toDate(hour) AS day, {names}, {totals}
    FROM {hourly.name} AS h
    GROUP BY day, {names}
)""",
        notes=hourly.notes,
    )


USAGE_HOURLY = View(
    name="usage_hourly",
    row="an hour, application, provider, model, outcome and currency",
    columns=(_HOUR, *_USAGE_KEYS, *_USAGE_SUMS),
    source=f"""FROM
(
    SELECT
        {HOUR} AS hour, application_name, model_provider, model_name, outcome_status, cost_currency,
        count() AS events,
        sum(usage_input_tokens) AS input_tokens,
        sum(usage_output_tokens) AS output_tokens,
        sum(usage_cached_input_tokens) AS cached_input_tokens,
        sum(usage_reasoning_tokens) AS reasoning_tokens,
        sum(cost_amount) AS cost,
        if(ifNull(outcome_status = 'error', 0), count(), 0) AS failed
    FROM ledger
    WHERE {ACCEPTED}
    GROUP BY {HOUR}, application_name, model_provider, model_name, outcome_status, cost_currency
)""",
)

_VERDICTS_BY_HOUR = f"""        SELECT
            {HOUR} AS hour, application_name, {{0}}, {{0}}_severity, {{0}}_stage, count() AS events
        FROM ledger
        WHERE {ACCEPTED}
        GROUP BY {HOUR}, application_name, {{0}}, {{0}}_severity, {{0}}_stage"""

VIOLATIONS_HOURLY = View(
    name="violations_hourly",
    row="an hour, policy, severity, stage and application",
    columns=(_HOUR, *_VIOLATION_KEYS, *_VIOLATION_SUMS),
    source=f"""FROM
(
    SELECT
        hour, policy_id, severity, stage, application_name,
        sum(violation_count) AS violations, sum(exempted_count) AS exempted, sum(indeterminate_count) AS indeterminate
    FROM
    (
        SELECT
            hour, policy_id, severity, stage, application_name,
            events AS violation_count, 0 AS exempted_count, 0 AS indeterminate_count
        FROM
        (
{_VERDICTS_BY_HOUR.format("violated")}
        )
        ARRAY JOIN violated AS policy_id, violated_severity AS severity, violated_stage AS stage
        UNION ALL
        SELECT hour, policy_id, severity, stage, application_name, 0, events, 0
        FROM
        (
{_VERDICTS_BY_HOUR.format("exempted")}
        )
        ARRAY JOIN exempted AS policy_id, exempted_severity AS severity, exempted_stage AS stage
        UNION ALL
        SELECT hour, policy_id, '', '', application_name, 0, 0, events
        FROM
        (
        SELECT {HOUR} AS hour, application_name, indeterminate, count() AS events
        FROM ledger
        WHERE {ACCEPTED}
        GROUP BY {HOUR}, application_name, indeterminate
        )
        ARRAY JOIN indeterminate AS policy_id
        UNION ALL
        SELECT toStartOfHour(window_end), policy_id, severity, 'enforce', '', 1, 0, 0
        FROM findings
        WHERE effect = 'violation'
    )
    GROUP BY hour, policy_id, severity, stage, application_name
)""",
)

DECLARATION_COVERAGE = View(
    name="declaration_coverage",
    row="a day, an application and a policy that could not be decided for some of its events",
    columns=(
        _DAY,
        Output("application_name", "application of the events"),
        Output("policy_id", "policy, as pack/clause"),
        Output("events", "accepted events of the application on that day, whatever the policy says of them"),
        Output("decided", "those for which the policy was not indeterminate"),
        Output("missing_fields", "fields that would have decided the others, sorted"),
    ),
    source=f"""FROM
(
    SELECT
        day, application_name, policy_id, any(total) AS events, any(total) - sum(undecided) AS decided,
        arraySort(groupUniqArrayArray(missing)) AS missing_fields
    FROM
    (
        SELECT
            day, application_name, indeterminate, indeterminate_missing, undecided,
            sum(undecided) OVER (PARTITION BY day, application_name) AS total
        FROM
        (
            SELECT toDate(hour) AS day, application_name, indeterminate, indeterminate_missing, sum(n) AS undecided
            FROM
            (
                SELECT {HOUR} AS hour, application_name, indeterminate, indeterminate_missing, count() AS n
                FROM ledger
                WHERE {ACCEPTED}
                GROUP BY {HOUR}, application_name, indeterminate, indeterminate_missing
            )
            GROUP BY day, application_name, indeterminate, indeterminate_missing
        )
    )
    ARRAY JOIN indeterminate AS policy_id, indeterminate_missing AS missing
    GROUP BY day, application_name, policy_id
)""",
    notes="`ok` and `not_applicable` are not recorded, so a policy that was decided for every event of an application"
    " on a day has no row for that day: nothing was undeclared. An event that the policy does not apply to counts as"
    " decided. `decided / events` is the share of events that declare what the policy needs.",
)

AGGREGATE_VIEWS: tuple[View, ...] = (
    USAGE_HOURLY,
    _by_day(USAGE_HOURLY, _USAGE_KEYS, _USAGE_SUMS),
    VIOLATIONS_HOURLY,
    _by_day(VIOLATIONS_HOURLY, _VIOLATION_KEYS, _VIOLATION_SUMS),
    DECLARATION_COVERAGE,
)
"""The views of this file, each after those it reads from."""
