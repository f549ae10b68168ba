-- The views that analytics SQL reads.

CREATE VIEW IF NOT EXISTS usage_events AS
SELECT
    `event_source`,
    `event_id`,
    `event_time`,
    `ingest_time`,
    `operation`,
    `model_provider`,
    `model_name`,
    `model_response_name`,
    `model_deployment`,
    `model_region`,
    `actor_id`,
    `actor_type`,
    `actor_organization`,
    `actor_sector`,
    `actor_jurisdiction`,
    `actor_on_behalf_of_organization`,
    `actor_on_behalf_of_sector`,
    `actor_on_behalf_of_jurisdiction`,
    `application_name`,
    `application_version`,
    `application_environment`,
    `application_team`,
    `purpose_use_case`,
    `purpose_reference`,
    bitTest(lists_present, 0) AS `input_modalities_present`,
    `input_modalities`,
    `input_data_classification`,
    `input_capture_device`,
    `input_capture_setting`,
    `input_capture_timing`,
    `input_capture_place`,
    bitTest(lists_present, 1) AS `output_modalities_present`,
    `output_modalities`,
    bitTest(lists_present, 2) AS `output_inferred_attributes_present`,
    `output_inferred_attributes`,
    `usage_input_tokens`,
    `usage_output_tokens`,
    `usage_cached_input_tokens`,
    `usage_reasoning_tokens`,
    `usage_images`,
    `usage_audio_seconds`,
    `cost_amount`,
    `cost_currency`,
    `cost_source`,
    `outcome_status`,
    `outcome_error_type`,
    bitTest(lists_present, 3) AS `outcome_finish_reasons_present`,
    `outcome_finish_reasons`,
    `outcome_latency_ms`,
    bitTest(lists_present, 4) AS `outcome_guardrails_present`,
    `outcome_guardrails_name`,
    `outcome_guardrails_action`,
    `outcome_guardrails_categories`,
    `outcome_guardrails_categories_present`,
    `content_prompt_hmac`,
    `content_prompt_chars`,
    `content_response_hmac`,
    `content_response_chars`,
    bitTest(lists_present, 5) AS `content_signals_present`,
    `content_signals_category`,
    `content_signals_score`,
    `content_signals_detector`,
    `content_signals_version`,
    `oversight_human_review`,
    `oversight_reviewer`,
    `oversight_consent`,
    `conversation_id`,
    `agent_id`,
    `agent_name`,
    bitTest(lists_present, 6) AS `tools_present`,
    `tools`,
    `trace_trace_id`,
    `trace_span_id`,
    `capture`,
    `publisher_instance`,
    `publisher_sequence`,
    `publisher_version`,
    `labels`,
    `violated`,
    `violated_version`,
    `violated_severity`,
    `violated_stage`,
    `violated_message`,
    `violated_evidence`,
    `violated_missing`,
    `exempted`,
    `exempted_version`,
    `exempted_severity`,
    `exempted_stage`,
    `exempted_message`,
    `exempted_exception`,
    `indeterminate`,
    `indeterminate_version`,
    `indeterminate_missing`,
    `bundle`,
    `stream`,
    `topic`,
    `partition`,
    `offset`,
    `epoch`,
    `batch`,
    `record_time`,
    `content_mode`,
    `payload_bytes`,
    `unknown_fields`,
    `raw`
FROM ledger
WHERE status = 'accepted';

CREATE VIEW IF NOT EXISTS stream_records AS
SELECT
    `stream`,
    `topic`,
    `partition`,
    `offset`,
    `status`,
    `ingest_time`,
    `record_time`,
    `epoch`,
    `batch`,
    `bundle`,
    `content_mode`,
    `payload_bytes`,
    `event_source`,
    `event_id`,
    `event_time`
FROM ledger;

CREATE VIEW IF NOT EXISTS rejects AS
SELECT
    `stream`,
    `topic`,
    `partition`,
    `offset`,
    `ingest_time`,
    `record_time`,
    `error`,
    `error_path`,
    `payload_bytes`,
    `epoch`,
    `batch`
FROM ledger
WHERE status = 'rejected';

CREATE VIEW IF NOT EXISTS findings AS
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
    `created`
FROM findings_log
ORDER BY created
LIMIT 1 BY finding_id;

CREATE VIEW IF NOT EXISTS bundles AS
SELECT
    `hash`,
    `name`,
    `archive`,
    `loaded_by`,
    `loaded_at`,
    `git_commit`
FROM bundles_log
ORDER BY loaded_at
LIMIT 1 BY hash;

CREATE VIEW IF NOT EXISTS violations AS
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
        lower(substring(hex(SHA256(concat(event_source, '\0', event_id, '\0', policy_id, '\0', toString(policy_version)))), 1, 32)) AS violation_id, 'event' AS kind, policy_id, policy_version, severity, stage, verdict,
        exception_id, message, evidence, missing_fields, event_source, event_id, event_time, ingest_time,
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
        finding_id, kind, policy_id, policy_version, severity, 'enforce', 'violation',
        '', message, '{}', [], '', '', window_end, created,
        '', NULL, '', '', '', group_key, bundle
    FROM findings
    WHERE effect = 'violation'
);

CREATE VIEW IF NOT EXISTS indeterminates AS
SELECT
    `policy_id`,
    `policy_version`,
    `missing_fields`,
    `event_source`,
    `event_id`,
    `event_time`,
    `ingest_time`,
    `application_name`,
    `actor_organization`,
    `model_provider`,
    `model_name`,
    `bundle`
FROM ledger
ARRAY JOIN
    indeterminate AS policy_id,
    indeterminate_version AS policy_version,
    indeterminate_missing AS missing_fields
WHERE status = 'accepted' AND notEmpty(indeterminate);

CREATE VIEW IF NOT EXISTS usage_hourly AS
SELECT
    `hour`,
    `application_name`,
    `model_provider`,
    `model_name`,
    `outcome_status`,
    `cost_currency`,
    `events`,
    `input_tokens`,
    `output_tokens`,
    `cached_input_tokens`,
    `reasoning_tokens`,
    `cost`,
    `failed`
FROM
(
    SELECT
        toStartOfHour(event_time) AS hour, application_name, model_provider, model_name, outcome_status, cost_currency,
        count() AS events,
        sum(usage_input_tokens) AS input_tokens,
        sum(usage_output_tokens) AS output_tokens,
        sum(usage_cached_input_tokens) AS cached_input_tokens,
        sum(usage_reasoning_tokens) AS reasoning_tokens,
        sum(cost_amount) AS cost,
        if(ifNull(outcome_status = 'error', 0), count(), 0) AS failed
    FROM ledger
    WHERE status = 'accepted'
    GROUP BY toStartOfHour(event_time), application_name, model_provider, model_name, outcome_status, cost_currency
);

CREATE VIEW IF NOT EXISTS usage_daily AS
SELECT
    `day`,
    `application_name`,
    `model_provider`,
    `model_name`,
    `outcome_status`,
    `cost_currency`,
    `events`,
    `input_tokens`,
    `output_tokens`,
    `cached_input_tokens`,
    `reasoning_tokens`,
    `cost`,
    `failed`
FROM
(
    SELECT toDate(hour) AS day, application_name, model_provider, model_name, outcome_status, cost_currency, sum(h.events) AS events, sum(h.input_tokens) AS input_tokens, sum(h.output_tokens) AS output_tokens, sum(h.cached_input_tokens) AS cached_input_tokens, sum(h.reasoning_tokens) AS reasoning_tokens, sum(h.cost) AS cost, sum(h.failed) AS failed
    FROM usage_hourly AS h
    GROUP BY day, application_name, model_provider, model_name, outcome_status, cost_currency
);

CREATE VIEW IF NOT EXISTS usage_by_purpose_hourly AS
SELECT
    `hour`,
    `application_name`,
    `application_team`,
    `purpose_use_case`,
    `model_provider`,
    `model_name`,
    `outcome_status`,
    `cost_currency`,
    `events`,
    `input_tokens`,
    `output_tokens`,
    `cached_input_tokens`,
    `reasoning_tokens`,
    `cost`,
    `failed`
FROM
(
    SELECT
        toStartOfHour(event_time) AS hour, application_name, application_team, purpose_use_case, model_provider, model_name, outcome_status, cost_currency,
        count() AS events,
        sum(usage_input_tokens) AS input_tokens,
        sum(usage_output_tokens) AS output_tokens,
        sum(usage_cached_input_tokens) AS cached_input_tokens,
        sum(usage_reasoning_tokens) AS reasoning_tokens,
        sum(cost_amount) AS cost,
        if(ifNull(outcome_status = 'error', 0), count(), 0) AS failed
    FROM ledger
    WHERE status = 'accepted'
    GROUP BY toStartOfHour(event_time), application_name, application_team, purpose_use_case, model_provider, model_name, outcome_status, cost_currency
);

CREATE VIEW IF NOT EXISTS violations_hourly AS
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
        SELECT toStartOfHour(window_end), policy_id, severity, 'enforce', '', 1, 0, 0
        FROM findings
        WHERE effect = 'violation'
    )
    GROUP BY hour, policy_id, severity, stage, application_name
);

CREATE VIEW IF NOT EXISTS violations_daily AS
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

CREATE VIEW IF NOT EXISTS violations_by_organization_hourly AS
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
        SELECT toStartOfHour(window_end), policy_id, severity, 'enforce', '', NULL, '', 1, 0
        FROM findings
        WHERE effect = 'violation'
    )
    GROUP BY hour, policy_id, severity, stage, application_name, actor_organization, model_name
);

CREATE VIEW IF NOT EXISTS indeterminates_hourly AS
SELECT
    `hour`,
    `application_name`,
    `policy_id`,
    `missing_fields`,
    `events`
FROM
(
    SELECT hour, application_name, policy_id, missing_fields, sum(n) AS events
    FROM
    (
        SELECT toStartOfHour(event_time) AS hour, application_name, indeterminate, indeterminate_missing, count() AS n
        FROM ledger
        WHERE status = 'accepted' AND notEmpty(indeterminate)
        GROUP BY toStartOfHour(event_time), application_name, indeterminate, indeterminate_missing
    )
    ARRAY JOIN indeterminate AS policy_id, indeterminate_missing AS missing_fields
    GROUP BY hour, application_name, policy_id, missing_fields
);

CREATE VIEW IF NOT EXISTS declaration_coverage AS
SELECT
    `day`,
    `application_name`,
    `policy_id`,
    `events`,
    `decided`,
    `missing_fields`
FROM
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
                SELECT toStartOfHour(event_time) AS hour, application_name, indeterminate, indeterminate_missing, count() AS n
                FROM ledger
                WHERE status = 'accepted'
                GROUP BY toStartOfHour(event_time), application_name, indeterminate, indeterminate_missing
            )
            GROUP BY day, application_name, indeterminate, indeterminate_missing
        )
    )
    ARRAY JOIN indeterminate AS policy_id, indeterminate_missing AS missing
    GROUP BY day, application_name, policy_id
);
