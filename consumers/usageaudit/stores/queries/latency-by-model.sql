-- How long answers took: median, 90th and 99th percentile of each model, in milliseconds.
-- since Date = 1970-01-01: first day that counts, UTC
-- until Date = 2106-01-01: first day that no longer counts, UTC
SELECT
    model_provider,
    model_name,
    count(outcome_latency_ms) AS events,
    round(quantileExact(0.5)(outcome_latency_ms), 1) AS median_ms,
    round(quantileExact(0.9)(outcome_latency_ms), 1) AS p90_ms,
    round(quantileExact(0.99)(outcome_latency_ms), 1) AS p99_ms,
    max(outcome_latency_ms) AS max_ms
FROM usage_events
WHERE event_time >= {since:Date} AND event_time < {until:Date} AND isNotNull(outcome_latency_ms)
GROUP BY model_provider, model_name
ORDER BY p90_ms DESC, model_provider, model_name
