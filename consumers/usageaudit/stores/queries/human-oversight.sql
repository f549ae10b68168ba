-- Whether a person reviews what models say: the share of each application and use case that declares it.
-- since Date = 1970-01-01: first day that counts, UTC
-- until Date = 2106-01-01: first day that no longer counts, UTC
SELECT
    application_name,
    purpose_use_case,
    count() AS events,
    countIf(oversight_human_review = true) AS reviewed,
    countIf(oversight_human_review = false) AS not_reviewed,
    countIf(isNull(oversight_human_review)) AS not_declared,
    round(reviewed / events, 4) AS share_reviewed
FROM usage_events
WHERE event_time >= {since:Date} AND event_time < {until:Date}
GROUP BY application_name, purpose_use_case
ORDER BY share_reviewed, events DESC, application_name, purpose_use_case
