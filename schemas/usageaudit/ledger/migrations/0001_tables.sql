-- The tables that a store begins with.

CREATE TABLE IF NOT EXISTS schema_migrations
(
    `version` UInt32,
    `name` String,
    `digest` String,
    `applied_at` DateTime64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY version;

CREATE TABLE IF NOT EXISTS ledger
(
    `ingest_time` DateTime64(3, 'UTC'),
    `stream` LowCardinality(String),
    `topic` LowCardinality(String),
    `partition` UInt32,
    `epoch` UInt64,
    `batch` UInt64,
    `bundle` LowCardinality(String),
    `offset` UInt64,
    `record_time` Nullable(DateTime64(3, 'UTC')),
    `status` LowCardinality(String),
    `content_mode` LowCardinality(String),
    `payload_bytes` UInt32,
    `error` String,
    `error_path` String,
    `unknown_fields` UInt16,
    `event_source` LowCardinality(String),
    `event_id` String,
    `event_time` DateTime64(6, 'UTC'),
    `operation` LowCardinality(String),
    `model_provider` LowCardinality(String),
    `model_name` LowCardinality(String),
    `model_response_name` LowCardinality(Nullable(String)),
    `model_deployment` LowCardinality(Nullable(String)),
    `model_region` LowCardinality(Nullable(String)),
    `actor_id` String,
    `actor_type` LowCardinality(Nullable(String)),
    `actor_organization` LowCardinality(Nullable(String)),
    `actor_sector` LowCardinality(Nullable(String)),
    `actor_jurisdiction` LowCardinality(Nullable(String)),
    `actor_on_behalf_of_organization` LowCardinality(Nullable(String)),
    `actor_on_behalf_of_sector` LowCardinality(Nullable(String)),
    `actor_on_behalf_of_jurisdiction` LowCardinality(Nullable(String)),
    `application_name` LowCardinality(String),
    `application_version` LowCardinality(Nullable(String)),
    `application_environment` LowCardinality(Nullable(String)),
    `application_team` LowCardinality(Nullable(String)),
    `purpose_use_case` LowCardinality(Nullable(String)),
    `purpose_reference` Nullable(String),
    `input_modalities` Array(LowCardinality(String)),
    `input_data_classification` LowCardinality(Nullable(String)),
    `input_capture_device` LowCardinality(Nullable(String)),
    `input_capture_setting` LowCardinality(Nullable(String)),
    `input_capture_timing` LowCardinality(Nullable(String)),
    `input_capture_place` LowCardinality(Nullable(String)),
    `output_modalities` Array(LowCardinality(String)),
    `output_inferred_attributes` Array(LowCardinality(String)),
    `usage_input_tokens` Nullable(UInt64),
    `usage_output_tokens` Nullable(UInt64),
    `usage_cached_input_tokens` Nullable(UInt64),
    `usage_reasoning_tokens` Nullable(UInt64),
    `usage_images` Nullable(UInt64),
    `usage_audio_seconds` Nullable(Float64),
    `cost_amount` Nullable(Decimal(18, 9)),
    `cost_currency` LowCardinality(Nullable(String)),
    `cost_source` LowCardinality(Nullable(String)),
    `outcome_status` LowCardinality(Nullable(String)),
    `outcome_error_type` LowCardinality(Nullable(String)),
    `outcome_finish_reasons` Array(LowCardinality(String)),
    `outcome_latency_ms` Nullable(Float64),
    `outcome_guardrails_name` Array(LowCardinality(Nullable(String))),
    `outcome_guardrails_action` Array(LowCardinality(Nullable(String))),
    `outcome_guardrails_categories` Array(Array(LowCardinality(String))),
    `outcome_guardrails_categories_present` Array(Bool),
    `content_prompt_hmac` Nullable(String),
    `content_prompt_chars` Nullable(UInt64),
    `content_response_hmac` Nullable(String),
    `content_response_chars` Nullable(UInt64),
    `content_signals_category` Array(LowCardinality(String)),
    `content_signals_score` Array(Float64),
    `content_signals_detector` Array(LowCardinality(Nullable(String))),
    `content_signals_version` Array(LowCardinality(Nullable(String))),
    `oversight_human_review` Nullable(Bool),
    `oversight_reviewer` Nullable(String),
    `oversight_consent` LowCardinality(Nullable(String)),
    `conversation_id` Nullable(String),
    `agent_id` Nullable(String),
    `agent_name` LowCardinality(Nullable(String)),
    `tools` Array(LowCardinality(String)),
    `trace_trace_id` Nullable(String),
    `trace_span_id` Nullable(String),
    `capture` LowCardinality(Nullable(String)),
    `publisher_instance` Nullable(String),
    `publisher_sequence` Nullable(UInt64),
    `publisher_version` LowCardinality(Nullable(String)),
    `labels` Map(LowCardinality(String), String),
    `lists_present` UInt16,
    `violated` Array(LowCardinality(String)),
    `violated_version` Array(UInt32),
    `violated_severity` Array(LowCardinality(String)),
    `violated_stage` Array(LowCardinality(String)),
    `violated_message` Array(String),
    `violated_evidence` Array(String),
    `violated_missing` Array(Array(LowCardinality(String))),
    `exempted` Array(LowCardinality(String)),
    `exempted_version` Array(UInt32),
    `exempted_severity` Array(LowCardinality(String)),
    `exempted_stage` Array(LowCardinality(String)),
    `exempted_message` Array(String),
    `exempted_exception` Array(LowCardinality(String)),
    `indeterminate` Array(LowCardinality(String)),
    `indeterminate_version` Array(UInt32),
    `indeterminate_missing` Array(Array(LowCardinality(String))),
    `raw` String CODEC(ZSTD(1)),
    INDEX offsets offset TYPE minmax GRANULARITY 1,
    PROJECTION usage_by_hour (SELECT status, toStartOfHour(event_time), application_name, application_team, purpose_use_case, model_provider, model_name, outcome_status, cost_currency, count(), sum(usage_input_tokens), sum(usage_output_tokens), sum(usage_cached_input_tokens), sum(usage_reasoning_tokens), sum(cost_amount) GROUP BY status, toStartOfHour(event_time), application_name, application_team, purpose_use_case, model_provider, model_name, outcome_status, cost_currency),
    PROJECTION violations_by_hour (SELECT status, toStartOfHour(event_time), actor_organization, application_name, model_name, violated, violated_severity, violated_stage, exempted, exempted_severity, exempted_stage, count() GROUP BY status, toStartOfHour(event_time), actor_organization, application_name, model_name, violated, violated_severity, violated_stage, exempted, exempted_severity, exempted_stage),
    PROJECTION indeterminates_by_hour (SELECT status, toStartOfHour(event_time), application_name, indeterminate, indeterminate_missing, count() GROUP BY status, toStartOfHour(event_time), application_name, indeterminate, indeterminate_missing)
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(ingest_time)
ORDER BY (event_time, event_source, event_id)
SETTINGS min_bytes_for_wide_part = 536870912, non_replicated_deduplication_window = 0;

CREATE TABLE IF NOT EXISTS fence
(
    `stream` LowCardinality(String),
    `topic` LowCardinality(String),
    `partition` UInt32,
    `epoch` UInt64,
    `owner` String,
    `taken_at` DateTime64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY (stream, topic, partition, epoch);

CREATE TABLE IF NOT EXISTS rejected_payloads
(
    `stream` LowCardinality(String),
    `topic` LowCardinality(String),
    `partition` UInt32,
    `offset` UInt64,
    `ingest_time` DateTime64(3, 'UTC'),
    `payload` String CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
ORDER BY (stream, topic, partition, offset)
TTL toDateTime(ingest_time) + toIntervalDay(30);

CREATE TABLE IF NOT EXISTS bundles_log
(
    `hash` String,
    `name` String,
    `archive` String CODEC(ZSTD(1)),
    `loaded_by` String,
    `loaded_at` DateTime64(3, 'UTC'),
    `git_commit` String
)
ENGINE = MergeTree
ORDER BY (hash, loaded_at);

CREATE TABLE IF NOT EXISTS findings_log
(
    `finding_id` String,
    `kind` LowCardinality(String),
    `effect` LowCardinality(String),
    `policy_id` LowCardinality(String),
    `policy_version` UInt32,
    `bundle` LowCardinality(String),
    `severity` LowCardinality(String),
    `window_start` DateTime64(6, 'UTC'),
    `window_end` DateTime64(6, 'UTC'),
    `group_key` String,
    `event_refs` Array(Tuple(source String, id String)),
    `message` String,
    `created` DateTime64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY (finding_id, created);
