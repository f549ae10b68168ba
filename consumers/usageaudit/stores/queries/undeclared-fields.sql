-- Which fields applications leave out that policies needed, and how many verdicts that left undecided.
-- since Date = 1970-01-01: first day that counts, UTC
-- until Date = 2106-01-01: first day that no longer counts, UTC
SELECT
    application_name,
    field,
    sum(i.events) AS undecided_verdicts,
    arraySort(groupUniqArray(policy_id)) AS policies
FROM indeterminates_hourly AS i
ARRAY JOIN missing_fields AS field
WHERE toDate(hour) >= {since:Date} AND toDate(hour) < {until:Date}
GROUP BY application_name, field
ORDER BY undecided_verdicts DESC, application_name, field
