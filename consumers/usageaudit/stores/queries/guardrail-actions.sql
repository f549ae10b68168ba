-- What inline guardrails did: events by application, guardrail, action and category.
-- since Date = 1970-01-01: first day that counts, UTC
-- until Date = 2106-01-01: first day that no longer counts, UTC
SELECT
    application_name,
    guardrail,
    action,
    arrayJoin(if(empty(found), [''], found)) AS category,
    count() AS events
FROM
(
    SELECT application_name, guardrail, action, arrayDistinct(categories) AS found
    FROM usage_events
    ARRAY JOIN
        outcome_guardrails_name AS guardrail,
        outcome_guardrails_action AS action,
        outcome_guardrails_categories AS categories
    WHERE event_time >= {since:Date} AND event_time < {until:Date}
)
GROUP BY application_name, guardrail, action, category
ORDER BY events DESC, application_name, guardrail, action, category
