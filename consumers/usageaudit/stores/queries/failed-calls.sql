-- Failed calls by kind of error, application and model, and their share of all calls of that kind.
-- since Date = 1970-01-01: first day that counts, UTC
-- until Date = 2106-01-01: first day that no longer counts, UTC
SELECT
    application_name,
    model_name,
    outcome_error_type AS error_type,
    countIf(outcome_status = 'error') AS failed,
    any(calls) AS calls,
    round(failed / calls, 4) AS share_failed,
    max(event_time) AS last_failed
FROM
(
    SELECT application_name, model_name, outcome_status, outcome_error_type, event_time,
        count() OVER (PARTITION BY application_name, model_name) AS calls
    FROM usage_events
    WHERE event_time >= {since:Date} AND event_time < {until:Date}
)
WHERE outcome_status = 'error'
GROUP BY application_name, model_name, outcome_error_type
ORDER BY failed DESC, application_name, model_name, error_type
