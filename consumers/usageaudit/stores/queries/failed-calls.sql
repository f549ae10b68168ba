-- Failed calls by application, model and kind of error, and their share of all calls of that model.
-- since Date = 1970-01-01: first day that counts, UTC
-- until Date = 2106-01-01: first day that no longer counts, UTC
SELECT
    application_name,
    model_name,
    error_type,
    failed,
    calls,
    round(failed / calls, 4) AS share_failed,
    last_failed
FROM
(
    SELECT
        application_name,
        model_name,
        outcome_error_type AS error_type,
        countIf(outcome_status = 'error') AS failed,
        sum(count()) OVER (PARTITION BY application_name, model_name) AS calls,
        maxIf(event_time, outcome_status = 'error') AS last_failed
    FROM usage_events
    WHERE event_time >= {since:Date} AND event_time < {until:Date}
    GROUP BY application_name, model_name, error_type
)
WHERE failed > 0
ORDER BY failed DESC, application_name, model_name, error_type
