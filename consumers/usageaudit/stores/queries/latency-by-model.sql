-- How long answers took: median, 90th and 99th percentile (approximate) of each model, in milliseconds.
-- since Date = 1970-01-01: first day that counts, UTC
-- until Date = 2106-01-01: first day that no longer counts, UTC
SELECT
    model_provider,
    model_name,
    events,
    round(toFloat64(quantiles[1]), 1) AS median_ms,
    round(toFloat64(quantiles[2]), 1) AS p90_ms,
    round(toFloat64(quantiles[3]), 1) AS p99_ms,
    slowest AS max_ms
FROM
(
    SELECT
        model_provider,
        model_name,
        count() AS events,
        quantilesTDigest(0.5, 0.9, 0.99)(assumeNotNull(outcome_latency_ms)) AS quantiles,
        max(assumeNotNull(outcome_latency_ms)) AS slowest
    FROM usage_events
    WHERE event_time >= {since:Date} AND event_time < {until:Date} AND isNotNull(outcome_latency_ms)
    GROUP BY model_provider, model_name
)
ORDER BY p90_ms DESC, model_provider, model_name
