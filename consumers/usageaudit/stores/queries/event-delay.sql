-- How long after their time events reached the stream, in seconds by source: late senders and wrong clocks.
-- since Date = 1970-01-01: first day that counts, UTC
-- until Date = 2106-01-01: first day that no longer counts, UTC
SELECT
    event_source,
    count() AS events,
    min(delay) AS least,
    round(toFloat64(quantileTDigest(0.5)(delay)), 3) AS median,
    round(toFloat64(quantileTDigest(0.99)(delay)), 3) AS p99,
    max(delay) AS most,
    countIf(delay < 0) AS from_the_future
FROM
(
    SELECT event_source, (toUnixTimestamp64Milli(record_time) - toUnixTimestamp64Milli(event_time)) / 1000 AS delay
    FROM usage_events
    WHERE isNotNull(record_time) AND event_time >= {since:Date} AND event_time < {until:Date}
)
GROUP BY event_source
ORDER BY p99 DESC, event_source
