-- How many tokens each model took in and gave out on each day.
-- since Date = 1970-01-01: first day that counts, UTC
-- until Date = 2106-01-01: first day that no longer counts, UTC
SELECT
    day,
    model_provider,
    model_name,
    sum(u.events) AS events,
    sum(u.input_tokens) AS input_tokens,
    sum(u.output_tokens) AS output_tokens
FROM usage_daily AS u
WHERE day >= {since:Date} AND day < {until:Date}
GROUP BY day, model_provider, model_name
ORDER BY day, model_provider, model_name
