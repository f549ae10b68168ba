-- Everything that one actor did, the latest first: to answer a person who asks what is on record.
-- actor String: pseudonymous id of the actor
-- since Date = 1970-01-01: first day that counts, UTC
-- until Date = 2106-01-01: first day that no longer counts, UTC
-- rows UInt32 = 1000: how many rows at most
SELECT
    event_time,
    event_source,
    event_id,
    application_name,
    conversation_id,
    operation,
    model_name,
    purpose_use_case,
    outcome_status,
    violated,
    exempted,
    indeterminate
FROM usage_events
WHERE actor_id = {actor:String} AND event_time >= {since:Date} AND event_time < {until:Date}
ORDER BY event_time DESC, event_source, event_id
LIMIT {rows:UInt32}
