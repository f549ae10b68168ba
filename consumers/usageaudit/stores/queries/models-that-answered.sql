-- Where another model answered than was asked for.
-- since Date = 1970-01-01: first day that counts, UTC
-- until Date = 2106-01-01: first day that no longer counts, UTC
SELECT
    model_provider,
    model_name AS requested,
    model_response_name AS answered,
    count() AS events,
    min(event_time) AS first_seen,
    max(event_time) AS last_seen
FROM usage_events
WHERE model_response_name != model_name AND event_time >= {since:Date} AND event_time < {until:Date}
GROUP BY model_provider, requested, answered
ORDER BY events DESC, model_provider, requested, answered
