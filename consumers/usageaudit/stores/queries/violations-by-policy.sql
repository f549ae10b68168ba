-- Violations by policy, organisation and week (from Monday); shadow policies apart.
-- since Date = 1970-01-01: first day that counts, UTC
-- until Date = 2106-01-01: first day that no longer counts, UTC
SELECT
    toStartOfWeek(hour, 1) AS week,
    policy_id,
    severity,
    stage,
    actor_organization,
    sum(v.violations) AS violations,
    sum(v.exempted) AS exempted
FROM violations_by_organization_hourly AS v
WHERE toDate(hour) >= {since:Date} AND toDate(hour) < {until:Date}
GROUP BY week, policy_id, severity, stage, actor_organization
ORDER BY week, violations DESC, policy_id, severity, stage, actor_organization
