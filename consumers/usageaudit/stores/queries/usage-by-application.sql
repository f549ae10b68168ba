-- Who uses which model for what: applications, teams, declared use cases and models, the busiest first.
-- since Date = 1970-01-01: first day that counts, UTC
-- until Date = 2106-01-01: first day that no longer counts, UTC
-- rows UInt32 = 1000: how many rows at most
SELECT
    application_name,
    application_team,
    purpose_use_case,
    model_provider,
    model_name,
    sum(u.events) AS events,
    sum(u.input_tokens) AS input_tokens,
    sum(u.output_tokens) AS output_tokens
FROM usage_by_purpose_hourly AS u
WHERE toDate(hour) >= {since:Date} AND toDate(hour) < {until:Date}
GROUP BY application_name, application_team, purpose_use_case, model_provider, model_name
ORDER BY events DESC, application_name, application_team, purpose_use_case, model_provider, model_name
LIMIT {rows:UInt32}
