-- Whom a policy affects: organisations, applications and models, before a day and from it on.
-- policy String: the policy, as pack/clause
-- date Date: the day of the change, UTC
SELECT
    actor_organization,
    application_name,
    model_name,
    sumIf(v.violations, toDate(hour) < {date:Date}) AS violations_before,
    sumIf(v.violations, toDate(hour) >= {date:Date}) AS violations_after,
    sumIf(v.exempted, toDate(hour) < {date:Date}) AS exempted_before,
    sumIf(v.exempted, toDate(hour) >= {date:Date}) AS exempted_after
FROM violations_by_organization_hourly AS v
WHERE policy_id = {policy:String}
GROUP BY actor_organization, application_name, model_name
ORDER BY violations_after DESC, violations_before DESC, actor_organization, application_name, model_name
