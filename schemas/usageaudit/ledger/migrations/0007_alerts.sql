-- What the dispatcher of alerts decides, what becomes of every delivery, and who acknowledged what.

CREATE TABLE IF NOT EXISTS alert_decisions
(
    `violation_id` String,
    `recorded` DateTime64(3, 'UTC'),
    `outcome` LowCardinality(String),
    `alert_id` String,
    `gathering` String,
    `kind` LowCardinality(String),
    `policy_id` LowCardinality(String),
    `policy_version` UInt32,
    `severity` LowCardinality(String),
    `group` Map(String, String),
    `event_source` LowCardinality(String),
    `event_id` String,
    `event_time` DateTime64(6, 'UTC'),
    `routes` Array(LowCardinality(String)),
    `targets` Array(LowCardinality(String)),
    `epoch` UInt64,
    `decided_at` DateTime64(3, 'UTC'),
    INDEX decided decided_at TYPE minmax GRANULARITY 1,
    PROJECTION by_gathering (SELECT gathering, outcome, recorded, alert_id ORDER BY gathering, outcome, recorded),
    PROJECTION by_alert (SELECT alert_id, outcome, recorded, violation_id ORDER BY alert_id, outcome)
)
ENGINE = MergeTree
ORDER BY (recorded, violation_id);

CREATE TABLE IF NOT EXISTS alert_deliveries_log
(
    `delivery_id` String,
    `alert_id` String,
    `target` LowCardinality(String),
    `occasion` LowCardinality(String),
    `change` UInt32,
    `state` LowCardinality(String),
    `attempts` UInt32,
    `status` UInt16,
    `response` String,
    `next_try` DateTime64(3, 'UTC'),
    `epoch` UInt64,
    `at` DateTime64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY (at, delivery_id, change);

CREATE TABLE IF NOT EXISTS alert_acknowledgements
(
    `alert_id` String,
    `acknowledged_by` String,
    `via` LowCardinality(String),
    `comment` String,
    `at` DateTime64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY (alert_id, at);

CREATE TABLE IF NOT EXISTS alert_progress
(
    `epoch` UInt64,
    `step` UInt64,
    `seen` DateTime64(3, 'UTC'),
    `found` DateTime64(3, 'UTC'),
    `positions` Array(Tuple(stream String, topic String, partition UInt32, next UInt64)),
    `written` DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY epoch;

CREATE VIEW IF NOT EXISTS alerts AS
SELECT
    `alert_id`,
    `status`,
    `kind`,
    `policy_id`,
    `policy_version`,
    `severity`,
    `violation_id`,
    `group`,
    `count`,
    `opened`,
    `last`,
    `targets`,
    `decided_at`,
    `acknowledged_by`,
    `acknowledged_at`
FROM
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
) AS b USING (alert_id);

CREATE VIEW IF NOT EXISTS alert_deliveries AS
SELECT
    `delivery_id`,
    `alert_id`,
    `target`,
    `occasion`,
    `state`,
    `attempts`,
    `status`,
    `response`,
    `next_try`,
    `at`
FROM
(
    SELECT
        delivery_id, alert_id, toString(target) AS target, toString(occasion) AS occasion, toString(state) AS state,
        attempts, status, response, next_try, at, toInt64(change) AS change, epoch
    FROM alert_deliveries_log
    UNION ALL
    SELECT
        lower(substring(hex(SHA256(concat(d.alert_id, '\0', d.target, '\0', d.occasion))), 1, 32)) AS delivery_id, d.alert_id, d.target, d.occasion, 'waiting' AS state, toUInt32(0) AS attempts,
        toUInt16(0) AS status, '' AS response, toDateTime64(0, 3, 'UTC') AS next_try, d.decided_at AS at, toInt64(-1) AS change, d.epoch
    FROM
    (
        SELECT alert_id, toString(outcome) AS occasion, toString(arrayJoin(targets)) AS target, decided_at, epoch
        FROM alert_decisions
        WHERE outcome IN ('opened', 'resolved')
    ) AS d
)
ORDER BY change DESC, epoch DESC
LIMIT 1 BY delivery_id;
