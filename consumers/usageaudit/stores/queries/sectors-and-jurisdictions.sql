-- By and for whom models are used: sectors and jurisdictions of actors and of those they act for.
-- since Date = 1970-01-01: first day that counts, UTC
-- until Date = 2106-01-01: first day that no longer counts, UTC
SELECT
    model_provider,
    model_name,
    actor_sector AS sector,
    actor_jurisdiction AS jurisdiction,
    actor_on_behalf_of_sector AS for_sector,
    actor_on_behalf_of_jurisdiction AS for_jurisdiction,
    count() AS events,
    uniqExact(application_name) AS applications
FROM usage_events
WHERE event_time >= {since:Date} AND event_time < {until:Date}
GROUP BY model_provider, model_name, sector, jurisdiction, for_sector, for_jurisdiction
ORDER BY events DESC, model_provider, model_name, sector, jurisdiction, for_sector, for_jurisdiction
