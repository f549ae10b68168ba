-- What the scheduler of windowed policies keeps, and finds its way by.

CREATE TABLE IF NOT EXISTS window_events
(
    `rule` LowCardinality(String),
    `key` Array(String),
    `event_time` DateTime64(6, 'UTC'),
    `event_source` LowCardinality(String),
    `event_id` String,
    `amount` Decimal(38, 9),
    `text` String,
    `role` UInt32
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMMDD(event_time)
ORDER BY (rule, key, event_time, event_source, event_id);

CREATE TABLE IF NOT EXISTS window_progress
(
    `rule` LowCardinality(String),
    `policy_id` LowCardinality(String),
    `policy_version` UInt32,
    `epoch` UInt64,
    `step` UInt64,
    `since` DateTime64(6, 'UTC'),
    `watermark` DateTime64(6, 'UTC'),
    `seen` DateTime64(3, 'UTC'),
    `positions` Array(Tuple(stream String, topic String, partition UInt32, next UInt64)),
    `written` DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY (policy_id, policy_version, rule, epoch);

CREATE TABLE IF NOT EXISTS leases
(
    `name` LowCardinality(String),
    `epoch` UInt64,
    `holder` String,
    `until` DateTime64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY (name, epoch, until)
TTL toDateTime(until) + toIntervalDay(7);

ALTER TABLE ledger ADD INDEX IF NOT EXISTS ingested ingest_time TYPE minmax GRANULARITY 1;

ALTER TABLE findings_log ADD PROJECTION IF NOT EXISTS by_policy (SELECT policy_id, policy_version, kind, finding_id, group_key, effect, message, window_start, window_end, created ORDER BY policy_id, window_end);

CREATE OR REPLACE VIEW findings AS
SELECT
    `finding_id`,
    `kind`,
    `effect`,
    `policy_id`,
    `policy_version`,
    `bundle`,
    `severity`,
    `window_start`,
    `window_end`,
    `group_key`,
    `event_refs`,
    `message`,
    `created`,
    `stage`,
    `verdict`,
    `old_bundle`,
    `missing_fields`,
    `evidence`,
    `application_name`,
    `actor_organization`,
    `actor_id`,
    `model_provider`,
    `model_name`
FROM findings_log
ORDER BY created DESC
LIMIT 1 BY finding_id;
