-- Who approved which version of a policy and why, in each bundle, with how many events that bundle judged.
-- policy String: the policy, as pack/clause
SELECT
    a.policy_version AS policy_version,
    a.approved_by AS approved_by,
    a.approved_at AS approved_at,
    a.reason AS reason,
    a.current AS current,
    a.bundle AS bundle,
    b.name AS name,
    j.events AS events
FROM (SELECT * FROM policy_approvals WHERE policy_id = {policy:String}) AS a
LEFT JOIN (SELECT hash, name FROM bundles) AS b ON b.hash = a.bundle
LEFT JOIN (SELECT bundle, count() AS events FROM usage_events GROUP BY bundle) AS j ON j.bundle = a.bundle
ORDER BY approved_at, approved_by, a.recorded_at, bundle
