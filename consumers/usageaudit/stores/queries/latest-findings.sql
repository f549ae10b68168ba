-- The latest findings: what belongs to no single record, such as offset gaps and windowed policies.
-- rows UInt32 = 50: how many rows at most
SELECT
    created,
    kind,
    effect,
    severity,
    policy_id,
    window_start,
    window_end,
    group_key,
    message,
    finding_id
FROM findings
ORDER BY created DESC, finding_id
LIMIT {rows:UInt32}
