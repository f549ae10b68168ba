-- Applications that appeared first on or after a day, the newest first.
-- since Date = 1970-01-01: first day on which an application counts as new, UTC
SELECT
    application_name,
    min(hour) AS first_hour,
    max(hour) AS last_hour,
    sum(u.events) AS events,
    arraySort(groupUniqArray(model_name)) AS models
FROM usage_hourly AS u
GROUP BY application_name
HAVING first_hour >= {since:Date}
ORDER BY first_hour DESC, application_name
