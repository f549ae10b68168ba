-- Events that share source and id but not the time: all of them were accepted, and one of them may be wrong.
-- rows UInt32 = 100: how many rows at most
SELECT
    event_source,
    event_id,
    count() AS events,
    arraySort(groupArray(event_time)) AS times,
    arraySort(groupUniqArray(application_name)) AS applications
FROM usage_events
GROUP BY event_source, event_id
HAVING events > 1
ORDER BY events DESC, event_source, event_id
LIMIT {rows:UInt32}
