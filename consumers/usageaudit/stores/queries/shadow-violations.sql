-- What policies in shadow would find: their hits by application and organisation.
-- since Date = 1970-01-01: first day that counts, UTC
-- until Date = 2106-01-01: first day that no longer counts, UTC
SELECT
    policy_id,
    severity,
    application_name,
    actor_organization,
    sum(v.violations) AS violations,
    sum(v.exempted) AS exempted,
    min(hour) AS first_hour,
    max(hour) AS last_hour
FROM violations_by_organization_hourly AS v
WHERE stage = 'shadow' AND toDate(hour) >= {since:Date} AND toDate(hour) < {until:Date}
GROUP BY policy_id, severity, application_name, actor_organization
ORDER BY violations DESC, policy_id, severity, application_name, actor_organization
