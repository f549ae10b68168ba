-- The share of each application's events that a policy could decide, the lowest first; an event that it does not apply to is decided.
-- since Date = 1970-01-01: first day that counts, UTC
-- until Date = 2106-01-01: first day that no longer counts, UTC
SELECT
    c.application_name AS application_name,
    c.policy_id AS policy_id,
    sum(t.events) AS events,
    sum(t.events) - sum(c.undecided) AS decided,
    round(decided / events, 4) AS share_decided,
    arraySort(groupUniqArrayArray(c.missing_fields)) AS missing_fields
FROM
(
    SELECT
        application_name,
        policy_id,
        sum(d.events - d.decided) AS undecided,
        groupUniqArrayArray(d.missing_fields) AS missing_fields
    FROM declaration_coverage AS d
    WHERE day >= {since:Date} AND day < {until:Date}
    GROUP BY application_name, policy_id
) AS c
INNER JOIN
(
    SELECT application_name, sum(u.events) AS events
    FROM usage_daily AS u
    WHERE day >= {since:Date} AND day < {until:Date}
    GROUP BY application_name
) AS t ON t.application_name = c.application_name
GROUP BY application_name, policy_id
ORDER BY share_decided, events DESC, application_name, policy_id
