-- Which exceptions are used, how often, by whom, and when last.
-- since Date = 1970-01-01: first day that counts, UTC
-- until Date = 2106-01-01: first day that no longer counts, UTC
SELECT
    exception_id,
    policy_id,
    count() AS events,
    min(event_time) AS first_used,
    max(event_time) AS last_used,
    arraySort(groupUniqArray(application_name)) AS applications
FROM violations
WHERE verdict = 'exempted' AND event_time >= {since:Date} AND event_time < {until:Date}
GROUP BY exception_id, policy_id
ORDER BY events DESC, exception_id, policy_id
