-- Who uses models the most: actors by events, with what they used.
-- since Date = 1970-01-01: first day that counts, UTC
-- until Date = 2106-01-01: first day that no longer counts, UTC
-- rows UInt32 = 20: how many rows at most
SELECT
    actor_id,
    arraySort(groupUniqArray(actor_organization)) AS organizations,
    count() AS events,
    sum(usage_input_tokens) AS input_tokens,
    sum(usage_output_tokens) AS output_tokens,
    arraySort(groupUniqArray(application_name)) AS applications,
    arraySort(groupUniqArray(model_name)) AS models,
    sum(length(violated)) AS violations
FROM usage_events
WHERE event_time >= {since:Date} AND event_time < {until:Date}
GROUP BY actor_id
ORDER BY events DESC, actor_id
LIMIT {rows:UInt32}
