"""Views that count: by hour and by day. The ledger's projections answer them, so they stay small however it grows.

Filters on `hour` and `day` are passed on to the projections; through functions of other columns of `usage_events` the
older engines find none, so each question that a projection serves has its own view here.
"""

from __future__ import annotations

from usageaudit.ledger.projections import HOUR
from usageaudit.ledger.view import Output, View
from usageaudit.ledger.views import ACCEPTED

_HOUR = Output("hour", "DateTime('UTC')", "start of the hour of `event_time`, UTC")
_DAY = Output("day", "Date", "day of `event_time`, UTC")

_APPLICATION = Output(
    "application_name", "String", "application that called the model; empty for findings of several events"
)
_MODEL = Output("model_name", "String", "model that was requested; empty for findings of several events")
_USAGE_KEYS = (
    Output("application_name", "String", "application that called the model"),
    Output("model_provider", "String", "provider of the model"),
    Output("model_name", "String", "model that was requested"),
    Output("outcome_status", "Nullable(String)", "ok, error, blocked or filtered; NULL where the events do not say"),
    Output("cost_currency", "Nullable(String)", "currency of `cost`; NULL where the events name none"),
)
_PURPOSE_KEYS = (
    Output("application_team", "Nullable(String)", "team that owns the application; NULL where the events do not say"),
    Output("purpose_use_case", "Nullable(String)", "declared use case; NULL where none was declared"),
)
_USAGE_SUMS = (
    Output("events", "UInt64", "uses of the model"),
    Output("input_tokens", "Nullable(UInt64)", "tokens in, cached ones included; NULL where no event says"),
    Output("output_tokens", "Nullable(UInt64)", "tokens out, reasoning included; NULL where no event says"),
    Output("cached_input_tokens", "Nullable(UInt64)", "part of `input_tokens` from a cache; NULL where no event says"),
    Output("reasoning_tokens", "Nullable(UInt64)", "part of `output_tokens` for reasoning; NULL where no event says"),
    Output("cost", "Nullable(Decimal(38, 9))", "sum of the costs in `cost_currency`; NULL where no event says"),
    Output("failed", "UInt64", "uses whose outcome is error; blocked and filtered ones did not fail"),
)
_VIOLATION_KEYS = (
    Output("policy_id", "String", "policy, as pack/clause"),
    Output("severity", "String", "info, low, medium, high or critical; empty for indeterminates, which have none"),
    Output("stage", "String", "enforce or shadow; empty for indeterminates, which have none"),
    _APPLICATION,
)
_VIOLATIONS = Output("violations", "UInt64", "violations, findings of effect violation included")
_EXEMPTED = Output("exempted", "UInt64", "violations under an exception")
_INDETERMINATE = Output("indeterminate", "UInt64", "events for which the policy could not be decided")


def _names(outputs: tuple[Output, ...]) -> str:
    return ", ".join(output.name for output in outputs)


def _usage(name: str, row: str, keys: tuple[Output, ...]) -> View:
    """Return a view of usage by the hour and some of the keys of its projection."""
    return View(
        name=name,
        row=row,
        columns=(_HOUR, *keys, *_USAGE_SUMS),
        source=f"""FROM
(
    SELECT
        {HOUR} AS hour, {_names(keys)},
        count() AS events,
        sum(usage_input_tokens) AS input_tokens,
        sum(usage_output_tokens) AS output_tokens,
        sum(usage_cached_input_tokens) AS cached_input_tokens,
        sum(usage_reasoning_tokens) AS reasoning_tokens,
        sum(cost_amount) AS cost,
        if(ifNull(outcome_status = 'error', 0), count(), 0) AS failed
    FROM ledger
    WHERE {ACCEPTED}
    GROUP BY {HOUR}, {_names(keys)}
)""",
    )


def _by_day(hourly: View, keys: tuple[Output, ...], sums: tuple[Output, ...]) -> View:
    """Return the view of the days of an hourly one, whose sums are the sums of the hours'."""
    totals = ", ".join(f"sum(h.{total.name}) AS {total.name}" for total in sums)
    return View(
        name=hourly.name.replace("hourly", "daily"),
        row=hourly.row.replace("an hour", "a day"),
        columns=(_DAY, *keys, *sums),
        source=f"""FROM
(
    SELECT toDate(hour) AS day, {_names(keys)}, {totals}
    FROM {hourly.name} AS h
    GROUP BY day, {_names(keys)}
)""",
        notes=hourly.notes,
    )


def _unfolded(verdict: str, *keys: str) -> str:
    """Return the counts by hour, keys and policy of one of the verdict arrays: grouped whole, unfolded outside."""
    arrays = (verdict, f"{verdict}_severity", f"{verdict}_stage")
    grouped = ", ".join((*keys, *arrays))
    return f"""(
            SELECT hour, {", ".join(keys)}, policy_id, severity, stage, events
            FROM
            (
                SELECT {HOUR} AS hour, {grouped}, count() AS events
                FROM ledger
                WHERE {ACCEPTED} AND notEmpty({verdict})
                GROUP BY {HOUR}, {grouped}
            )
            ARRAY JOIN {arrays[0]} AS policy_id, {arrays[1]} AS severity, {arrays[2]} AS stage
        )"""


USAGE_HOURLY = _usage(
    "usage_hourly", "an hour, application, provider, model, outcome and currency of accepted events", _USAGE_KEYS
)
USAGE_BY_PURPOSE_HOURLY = _usage(
    "usage_by_purpose_hourly",
    "an hour, application, team, use case, provider, model, outcome and currency of accepted events",
    (_USAGE_KEYS[0], *_PURPOSE_KEYS, *_USAGE_KEYS[1:]),
)

VIOLATIONS_HOURLY = View(
    name="violations_hourly",
    row="an hour, policy, severity, stage and application",
    columns=(_HOUR, *_VIOLATION_KEYS, _VIOLATIONS, _EXEMPTED, _INDETERMINATE),
    source=f"""FROM
(
    SELECT
        hour, policy_id, severity, stage, application_name,
        sum(v) AS violations, sum(x) AS exempted, sum(i) AS indeterminate
    FROM
    (
        SELECT hour, policy_id, severity, stage, application_name, events AS v, 0 AS x, 0 AS i
        FROM
        {_unfolded("violated", "application_name")}
        UNION ALL
        SELECT hour, policy_id, severity, stage, application_name, 0, events, 0
        FROM
        {_unfolded("exempted", "application_name")}
        UNION ALL
        SELECT hour, policy_id, '', '', application_name, 0, 0, events
        FROM
        (
            SELECT {HOUR} AS hour, application_name, indeterminate, count() AS events
            FROM ledger
            WHERE {ACCEPTED} AND notEmpty(indeterminate)
            GROUP BY {HOUR}, application_name, indeterminate
        )
        ARRAY JOIN indeterminate AS policy_id
        UNION ALL
        SELECT
            toStartOfHour(window_end), policy_id, severity, if(stage = '', 'enforce', stage), application_name, 1, 0, 0
        FROM findings
        WHERE effect = 'violation'
    )
    GROUP BY hour, policy_id, severity, stage, application_name
)""",
    notes="A finding counts in the hour in which its window ends.",
)

VIOLATIONS_BY_ORGANIZATION_HOURLY = View(
    name="violations_by_organization_hourly",
    row="an hour, policy, severity, stage, application, organisation of the actor and model",
    columns=(
        _HOUR,
        *_VIOLATION_KEYS,
        Output("actor_organization", "Nullable(String)", "organisation of the actor; NULL where it is not known"),
        _MODEL,
        _VIOLATIONS,
        _EXEMPTED,
    ),
    source=f"""FROM
(
    SELECT
        hour, policy_id, severity, stage, application_name, actor_organization, model_name,
        sum(v) AS violations, sum(x) AS exempted
    FROM
    (
        SELECT
            hour, policy_id, severity, stage, application_name, actor_organization, model_name, events AS v, 0 AS x
        FROM
        {_unfolded("violated", "application_name", "actor_organization", "model_name")}
        UNION ALL
        SELECT hour, policy_id, severity, stage, application_name, actor_organization, model_name, 0, events
        FROM
        {_unfolded("exempted", "application_name", "actor_organization", "model_name")}
        UNION ALL
        SELECT
            toStartOfHour(window_end), policy_id, severity, if(stage = '', 'enforce', stage), application_name,
            actor_organization, model_name, 1, 0
        FROM findings
        WHERE effect = 'violation'
    )
    GROUP BY hour, policy_id, severity, stage, application_name, actor_organization, model_name
)""",
    notes="A finding counts in the hour in which its window ends.",
)

DECLARATION_COVERAGE = View(
    name="declaration_coverage",
    row="a day, an application and a policy that could not be decided for some of its events",
    columns=(
        _DAY,
        Output("application_name", "String", "application of the events"),
        Output("policy_id", "String", "policy, as pack/clause"),
        Output("events", "UInt64", "accepted events of the application on that day, whatever the policy says of them"),
        Output("decided", "UInt64", "those for which the policy was not indeterminate"),
        Output("missing_fields", "Array(String)", "fields that would have decided the others, sorted"),
    ),
    source=f"""FROM
(
    SELECT
        day, application_name, policy_id, any(total) AS events, toUInt64(any(total) - sum(undecided)) AS decided,
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

INDETERMINATES_HOURLY = View(
    name="indeterminates_hourly",
    row="an hour, application, policy and set of fields that would have decided it",
    columns=(
        _HOUR,
        Output("application_name", "String", "application of the events"),
        Output("policy_id", "String", "policy, as pack/clause"),
        Output("missing_fields", "Array(String)", "fields that would have decided it, sorted"),
        Output("events", "UInt64", "accepted events for which these fields were missing"),
    ),
    source=f"""FROM
(
    SELECT hour, application_name, policy_id, missing_fields, sum(n) AS events
    FROM
    (
        SELECT {HOUR} AS hour, application_name, indeterminate, indeterminate_missing, count() AS n
        FROM ledger
        WHERE {ACCEPTED} AND notEmpty(indeterminate)
        GROUP BY {HOUR}, application_name, indeterminate, indeterminate_missing
    )
    ARRAY JOIN indeterminate AS policy_id, indeterminate_missing AS missing_fields
    GROUP BY hour, application_name, policy_id, missing_fields
)""",
)

AGGREGATE_VIEWS: tuple[View, ...] = (
    USAGE_HOURLY,
    _by_day(USAGE_HOURLY, _USAGE_KEYS, _USAGE_SUMS),
    USAGE_BY_PURPOSE_HOURLY,
    VIOLATIONS_HOURLY,
    _by_day(VIOLATIONS_HOURLY, _VIOLATION_KEYS, (_VIOLATIONS, _EXEMPTED, _INDETERMINATE)),
    VIOLATIONS_BY_ORGANIZATION_HOURLY,
    INDETERMINATES_HOURLY,
    DECLARATION_COVERAGE,
)
"""The views of this file, each after those it reads from."""
