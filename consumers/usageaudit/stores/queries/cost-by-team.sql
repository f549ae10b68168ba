-- What each team spent in each month, by currency.
-- since Date = 1970-01-01: first day that counts, UTC
-- until Date = 2106-01-01: first day that no longer counts, UTC
SELECT
    toStartOfMonth(hour) AS month,
    application_team,
    cost_currency,
    sum(u.cost) AS cost,
    sum(u.events) AS events
FROM usage_by_purpose_hourly AS u
WHERE toDate(hour) >= {since:Date} AND toDate(hour) < {until:Date}
GROUP BY month, application_team, cost_currency
HAVING isNotNull(cost)
ORDER BY month, cost_currency, cost DESC, application_team
