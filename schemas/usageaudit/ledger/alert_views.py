"""Views of alerts: what was opened, and what became of every delivery."""

from __future__ import annotations

from usageaudit.ledger.view import Output, View

_DELIVERY_ID = "lower(substring(hex(SHA256(concat(d.alert_id, '\\0', d.target, '\\0', d.occasion))), 1, 32))"
_NEVER = "toDateTime64(0, 3, 'UTC')"

ALERTS = View(
    name="alerts",
    row="an alert: violations that belong together, or a finding",
    columns=(
        Output("alert_id", "String", "32 hex digits, the same for the same alert"),
        Output("status", "String", "firing, or resolved where all its findings were cleared"),
        Output("kind", "String", "event, or the kind of the finding that opened it"),
        Output("policy_id", "String", "policy, as pack/clause; empty where none is behind it"),
        Output("policy_version", "UInt32", "its version"),
        Output("severity", "String", "info, low, medium, high or critical"),
        Output("violation_id", "String", "violation or finding that opened it"),
        Output("group", "Map(String, String)", "values of the fields that it was gathered by", personal=True),
        Output("count", "UInt64", "how many violations or findings it gathered, the first included"),
        Output("opened", "DateTime64(3, 'UTC')", "when the first was recorded"),
        Output("last", "DateTime64(3, 'UTC')", "when the last was recorded"),
        Output("targets", "Array(String)", "targets that are told"),
        Output("decided_at", "DateTime64(3, 'UTC')", "when it was opened"),
        Output("acknowledged_by", "String", "who acknowledged it first; empty where nobody has", personal=True),
        Output("acknowledged_at", "DateTime64(3, 'UTC')", "when; 1970 where nobody has"),
    ),
    source="""FROM
(
    SELECT
        d.alert_id AS alert_id, if(countIf(d.outcome = 'resolved') > 0, 'resolved', 'firing') AS status,
        anyIf(d.kind, d.outcome = 'opened') AS kind, anyIf(d.policy_id, d.outcome = 'opened') AS policy_id,
        anyIf(d.policy_version, d.outcome = 'opened') AS policy_version,
        anyIf(d.severity, d.outcome = 'opened') AS severity,
        anyIf(d.violation_id, d.outcome = 'opened') AS violation_id, anyIf(d.`group`, d.outcome = 'opened') AS `group`,
        uniqExactIf(d.violation_id, d.outcome IN ('opened', 'gathered')) AS `count`,
        minIf(d.recorded, d.outcome = 'opened') AS opened,
        maxIf(d.recorded, d.outcome IN ('opened', 'gathered')) AS last,
        anyIf(d.targets, d.outcome = 'opened') AS targets, minIf(d.decided_at, d.outcome = 'opened') AS decided_at
    FROM alert_decisions AS d
    WHERE d.alert_id != ''
    GROUP BY d.alert_id
) AS a
LEFT JOIN
(
    SELECT k.alert_id AS alert_id, argMin(k.acknowledged_by, k.at) AS acknowledged_by, min(k.at) AS acknowledged_at
    FROM alert_acknowledgements AS k
    GROUP BY k.alert_id
) AS b USING (alert_id)""",
)

DELIVERY_CHANGES = f"""(
    SELECT
        delivery_id, alert_id, toString(target) AS target, toString(occasion) AS occasion, toString(state) AS state,
        attempts, status, response, next_try, at, toInt64(change) AS change, epoch
    FROM alert_deliveries_log
    UNION ALL
    SELECT
        {_DELIVERY_ID} AS delivery_id, d.alert_id, d.target, d.occasion, 'waiting' AS state, toUInt32(0) AS attempts,
        toUInt16(0) AS status, '' AS response, {_NEVER} AS next_try, d.decided_at AS at, toInt64(-1) AS change, d.epoch
    FROM
    (
        SELECT alert_id, toString(outcome) AS occasion, toString(arrayJoin(targets)) AS target, decided_at, epoch
        FROM alert_decisions
        WHERE outcome IN ('opened', 'resolved')
    ) AS d
)"""
"""Every change of the state of every delivery, the decision to make it included."""

ALERT_DELIVERIES = View(
    name="alert_deliveries",
    row="a delivery: an alert on its way to a target, on one occasion",
    columns=(
        Output("delivery_id", "String", "32 hex digits, by which the receiver drops repeats"),
        Output("alert_id", "String", "alert that is told of"),
        Output("target", "String", "name of the target"),
        Output("occasion", "String", "opened, escalated, resolved or test"),
        Output("state", "String", "waiting, postponed (until quiet hours end), retrying, delivered or dead"),
        Output("attempts", "UInt32", "how many attempts there were"),
        Output("status", "UInt16", "status of HTTP of the last answer; 0 where there was none"),
        Output("response", "String", "the beginning of the last answer, or what went wrong; secrets are masked"),
        Output("next_try", "DateTime64(3, 'UTC')", "not before then; 1970 where nothing more is tried"),
        Output("at", "DateTime64(3, 'UTC')", "when its state changed last"),
    ),
    source=f"""FROM
{DELIVERY_CHANGES}
ORDER BY change DESC, epoch DESC
LIMIT 1 BY delivery_id""",
    notes="A delivery that was decided and not yet tried is waiting, without a row in `alert_deliveries_log`, which has"
    " every change.",
)

ALERT_VIEWS: tuple[View, ...] = (ALERTS, ALERT_DELIVERIES)
"""The views of this file, each after those it reads from."""
