-- One application day by day: uses, tokens, failures, violations and undecided verdicts.
-- application String: name of the application
-- since Date = 1970-01-01: first day that counts, UTC
-- until Date = 2106-01-01: first day that no longer counts, UTC
SELECT
    day,
    sum(d.events) AS events,
    sum(d.input_tokens) AS input_tokens,
    sum(d.output_tokens) AS output_tokens,
    sum(d.failed) AS failed,
    sum(d.violations) AS violations,
    sum(d.exempted) AS exempted,
    sum(d.indeterminate) AS indeterminate
FROM
(
    SELECT day, events, input_tokens, output_tokens, failed, 0 AS violations, 0 AS exempted, 0 AS indeterminate
    FROM usage_daily
    WHERE application_name = {application:String} AND day >= {since:Date} AND day < {until:Date}
    UNION ALL
    SELECT day, 0, NULL, NULL, 0, violations, exempted, indeterminate
    FROM violations_daily
    WHERE application_name = {application:String} AND day >= {since:Date} AND day < {until:Date}
) AS d
GROUP BY day
ORDER BY day
