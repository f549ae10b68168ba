-- What failed calls cost, by application, model and currency.
-- since Date = 1970-01-01: first day that counts, UTC
-- until Date = 2106-01-01: first day that no longer counts, UTC
SELECT
    application_name,
    model_name,
    cost_currency,
    sum(u.failed) AS failed_calls,
    sumIf(u.cost, outcome_status = 'error') AS cost_of_failed,
    sum(u.cost) AS cost_of_all,
    round(toFloat64(cost_of_failed) / toFloat64(cost_of_all), 4) AS share_failed
FROM usage_daily AS u
WHERE day >= {since:Date} AND day < {until:Date} AND isNotNull(cost_currency)
GROUP BY application_name, model_name, cost_currency
HAVING failed_calls > 0
ORDER BY cost_currency, cost_of_failed DESC, application_name, model_name
