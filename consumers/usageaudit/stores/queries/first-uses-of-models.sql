-- When each model was used first and last, by how many applications, the newest model first.
-- since Date = 1970-01-01: only models whose first use is not before this day, UTC
SELECT
    model_provider,
    model_name,
    min(hour) AS first_hour,
    max(hour) AS last_hour,
    sum(u.events) AS events,
    uniqExact(application_name) AS applications,
    argMin(application_name, (hour, application_name)) AS first_application
FROM usage_hourly AS u
GROUP BY model_provider, model_name
HAVING first_hour >= {since:Date}
ORDER BY first_hour DESC, model_provider, model_name
