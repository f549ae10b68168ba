-- What a finding that replaces a verdict says of its event, and of which bundle's verdict it replaces.

ALTER TABLE findings_log ADD COLUMN IF NOT EXISTS `stage` LowCardinality(String);

ALTER TABLE findings_log ADD COLUMN IF NOT EXISTS `verdict` LowCardinality(String);

ALTER TABLE findings_log ADD COLUMN IF NOT EXISTS `old_bundle` LowCardinality(String);

ALTER TABLE findings_log ADD COLUMN IF NOT EXISTS `missing_fields` Array(LowCardinality(String));

ALTER TABLE findings_log ADD COLUMN IF NOT EXISTS `evidence` String;

ALTER TABLE findings_log ADD COLUMN IF NOT EXISTS `application_name` LowCardinality(String);

ALTER TABLE findings_log ADD COLUMN IF NOT EXISTS `actor_organization` LowCardinality(Nullable(String));

ALTER TABLE findings_log ADD COLUMN IF NOT EXISTS `actor_id` String;

ALTER TABLE findings_log ADD COLUMN IF NOT EXISTS `model_provider` LowCardinality(String);

ALTER TABLE findings_log ADD COLUMN IF NOT EXISTS `model_name` LowCardinality(String);

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
ORDER BY created
LIMIT 1 BY finding_id;

CREATE OR REPLACE VIEW violations AS
SELECT
    `violation_id`,
    `kind`,
    `policy_id`,
    `policy_version`,
    `severity`,
    `stage`,
    `verdict`,
    `exception_id`,
    `message`,
    `evidence`,
    `missing_fields`,
    `event_source`,
    `event_id`,
    `event_time`,
    `ingest_time`,
    `application_name`,
    `actor_organization`,
    `actor_id`,
    `model_provider`,
    `model_name`,
    `group_key`,
    `bundle`
FROM
(
    SELECT
        lower(substring(hex(SHA256(concat(event_source, '\0', event_id, '\0', policy_id, '\0', toString(policy_version)))), 1, 32)) AS violation_id, toLowCardinality('event') AS kind, policy_id, policy_version, severity, stage,
        verdict, exception_id, message, evidence, missing_fields, event_source, event_id, event_time, ingest_time,
        application_name, actor_organization, actor_id, model_provider, model_name, '' AS group_key, bundle
    FROM ledger
    ARRAY JOIN
        arrayConcat(violated, exempted) AS policy_id,
        arrayConcat(violated_version, exempted_version) AS policy_version,
        arrayConcat(violated_severity, exempted_severity) AS severity,
        arrayConcat(violated_stage, exempted_stage) AS stage,
        arrayConcat(arrayMap(p -> 'violation', violated), arrayMap(p -> 'exempted', exempted)) AS verdict,
        arrayConcat(arrayMap(p -> '', violated), exempted_exception) AS exception_id,
        arrayConcat(violated_message, exempted_message) AS message,
        arrayConcat(violated_evidence, arrayMap(p -> '{}', exempted)) AS evidence,
        arrayConcat(violated_missing, arrayMap(p -> [], exempted)) AS missing_fields
    WHERE status = 'accepted' AND (notEmpty(violated) OR notEmpty(exempted))
    UNION ALL
    SELECT
        finding_id, kind, policy_id, policy_version, severity,
        toLowCardinality(if(stage = '', 'enforce', toString(stage))), 'violation', toLowCardinality(''), message,
        if(evidence = '', '{}', evidence), missing_fields,
        toLowCardinality(if(kind = 'rejudged', event_refs[1].1, '')), if(kind = 'rejudged', event_refs[1].2, ''),
        window_end, created,
        application_name, actor_organization, actor_id, model_provider, model_name, group_key, bundle
    FROM findings
    WHERE effect = 'violation'
);

CREATE OR REPLACE VIEW violations_hourly AS
SELECT
    `hour`,
    `policy_id`,
    `severity`,
    `stage`,
    `application_name`,
    `violations`,
    `exempted`,
    `indeterminate`
FROM
(
    SELECT
        hour, policy_id, severity, stage, application_name,
        sum(v) AS violations, sum(x) AS exempted, sum(i) AS indeterminate
    FROM
    (
        SELECT hour, policy_id, severity, stage, application_name, events AS v, 0 AS x, 0 AS i
        FROM
        (
            SELECT hour, application_name, policy_id, severity, stage, events
            FROM
            (
                SELECT toStartOfHour(event_time) AS hour, application_name, violated, violated_severity, violated_stage, count() AS events
                FROM ledger
                WHERE status = 'accepted' AND notEmpty(violated)
                GROUP BY toStartOfHour(event_time), application_name, violated, violated_severity, violated_stage
            )
            ARRAY JOIN violated AS policy_id, violated_severity AS severity, violated_stage AS stage
        )
        UNION ALL
        SELECT hour, policy_id, severity, stage, application_name, 0, events, 0
        FROM
        (
            SELECT hour, application_name, policy_id, severity, stage, events
            FROM
            (
                SELECT toStartOfHour(event_time) AS hour, application_name, exempted, exempted_severity, exempted_stage, count() AS events
                FROM ledger
                WHERE status = 'accepted' AND notEmpty(exempted)
                GROUP BY toStartOfHour(event_time), application_name, exempted, exempted_severity, exempted_stage
            )
            ARRAY JOIN exempted AS policy_id, exempted_severity AS severity, exempted_stage AS stage
        )
        UNION ALL
        SELECT hour, policy_id, '', '', application_name, 0, 0, events
        FROM
        (
            SELECT toStartOfHour(event_time) AS hour, application_name, indeterminate, count() AS events
            FROM ledger
            WHERE status = 'accepted' AND notEmpty(indeterminate)
            GROUP BY toStartOfHour(event_time), application_name, indeterminate
        )
        ARRAY JOIN indeterminate AS policy_id
        UNION ALL
        SELECT
            toStartOfHour(window_end), policy_id, severity, if(stage = '', 'enforce', stage), application_name, 1, 0, 0
        FROM findings
        WHERE effect = 'violation'
    )
    GROUP BY hour, policy_id, severity, stage, application_name
);

CREATE OR REPLACE VIEW violations_daily AS
SELECT
    `day`,
    `policy_id`,
    `severity`,
    `stage`,
    `application_name`,
    `violations`,
    `exempted`,
    `indeterminate`
FROM
(
    SELECT toDate(hour) AS day, policy_id, severity, stage, application_name, sum(h.violations) AS violations, sum(h.exempted) AS exempted, sum(h.indeterminate) AS indeterminate
    FROM violations_hourly AS h
    GROUP BY day, policy_id, severity, stage, application_name
);

CREATE OR REPLACE VIEW violations_by_organization_hourly AS
SELECT
    `hour`,
    `policy_id`,
    `severity`,
    `stage`,
    `application_name`,
    `actor_organization`,
    `model_name`,
    `violations`,
    `exempted`
FROM
(
    SELECT
        hour, policy_id, severity, stage, application_name, actor_organization, model_name,
        sum(v) AS violations, sum(x) AS exempted
    FROM
    (
        SELECT
            hour, policy_id, severity, stage, application_name, actor_organization, model_name, events AS v, 0 AS x
        FROM
        (
            SELECT hour, application_name, actor_organization, model_name, policy_id, severity, stage, events
            FROM
            (
                SELECT toStartOfHour(event_time) AS hour, application_name, actor_organization, model_name, violated, violated_severity, violated_stage, count() AS events
                FROM ledger
                WHERE status = 'accepted' AND notEmpty(violated)
                GROUP BY toStartOfHour(event_time), application_name, actor_organization, model_name, violated, violated_severity, violated_stage
            )
            ARRAY JOIN violated AS policy_id, violated_severity AS severity, violated_stage AS stage
        )
        UNION ALL
        SELECT hour, policy_id, severity, stage, application_name, actor_organization, model_name, 0, events
        FROM
        (
            SELECT hour, application_name, actor_organization, model_name, policy_id, severity, stage, events
            FROM
            (
                SELECT toStartOfHour(event_time) AS hour, application_name, actor_organization, model_name, exempted, exempted_severity, exempted_stage, count() AS events
                FROM ledger
                WHERE status = 'accepted' AND notEmpty(exempted)
                GROUP BY toStartOfHour(event_time), application_name, actor_organization, model_name, exempted, exempted_severity, exempted_stage
            )
            ARRAY JOIN exempted AS policy_id, exempted_severity AS severity, exempted_stage AS stage
        )
        UNION ALL
        SELECT
            toStartOfHour(window_end), policy_id, severity, if(stage = '', 'enforce', stage), application_name,
            actor_organization, model_name, 1, 0
        FROM findings
        WHERE effect = 'violation'
    )
    GROUP BY hour, policy_id, severity, stage, application_name, actor_organization, model_name
);
