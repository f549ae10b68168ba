-- The latest violations of policies in force, without exempted ones and those of shadow policies.
-- since Date = 1970-01-01: first day that counts, UTC
-- until Date = 2106-01-01: first day that no longer counts, UTC
-- rows UInt32 = 50: how many rows at most
SELECT
    event_time,
    severity,
    policy_id,
    application_name,
    actor_organization,
    model_name,
    message,
    event_source,
    event_id,
    violation_id
FROM violations
WHERE verdict = 'violation' AND stage = 'enforce' AND event_time >= {since:Date} AND event_time < {until:Date}
ORDER BY event_time DESC, violation_id
LIMIT {rows:UInt32}
