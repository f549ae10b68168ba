-- How complete each source is: full, sampled or imported; a sampled source is no record of truth.
-- since Date = 1970-01-01: first day that counts, UTC
-- until Date = 2106-01-01: first day that no longer counts, UTC
SELECT
    event_source,
    capture,
    count() AS events,
    min(event_time) AS first_event,
    max(event_time) AS last_event
FROM usage_events
WHERE event_time >= {since:Date} AND event_time < {until:Date}
GROUP BY event_source, capture
ORDER BY event_source, capture
