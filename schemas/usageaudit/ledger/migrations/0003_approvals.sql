-- Who approved which meaning of which policy, in which bundle.

CREATE TABLE IF NOT EXISTS policy_approvals_log
(
    `bundle` LowCardinality(String),
    `policy_id` LowCardinality(String),
    `policy_version` UInt32,
    `digest` String,
    `approved_by` String,
    `reason` String,
    `approved_at` DateTime64(6, 'UTC'),
    `current` UInt8,
    `recorded_at` DateTime64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY (bundle, policy_id, recorded_at);

CREATE VIEW IF NOT EXISTS policy_approvals AS
SELECT
    `bundle`,
    `policy_id`,
    `policy_version`,
    `digest`,
    `approved_by`,
    `reason`,
    `approved_at`,
    `current`,
    `recorded_at`
FROM policy_approvals_log
ORDER BY recorded_at
LIMIT 1 BY bundle, policy_id, policy_version, digest, approved_by, reason, approved_at;
