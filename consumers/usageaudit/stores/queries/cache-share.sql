-- How much of each model's input came from a cache, by application.
-- since Date = 1970-01-01: first day that counts, UTC
-- until Date = 2106-01-01: first day that no longer counts, UTC
SELECT
    application_name,
    model_provider,
    model_name,
    sum(u.input_tokens) AS input_tokens,
    sum(u.cached_input_tokens) AS cached_input_tokens,
    round(ifNull(cached_input_tokens, 0) / input_tokens, 4) AS share_cached
FROM usage_daily AS u
WHERE day >= {since:Date} AND day < {until:Date}
GROUP BY application_name, model_provider, model_name
HAVING input_tokens > 0
ORDER BY share_cached DESC, input_tokens DESC, application_name, model_provider, model_name
