-- Which publishers send the same event again: accepted events and copies of each source.
-- since Date = 1970-01-01: first day that counts, UTC
-- until Date = 2106-01-01: first day that no longer counts, UTC
SELECT
    event_source,
    countIf(status = 'accepted') AS accepted,
    countIf(status = 'duplicate') AS duplicates,
    round(duplicates / (accepted + duplicates), 4) AS share_duplicates
FROM stream_records
WHERE status IN ('accepted', 'duplicate') AND event_time >= {since:Date} AND event_time < {until:Date}
GROUP BY event_source
HAVING duplicates > 0
ORDER BY duplicates DESC, event_source
