-- Which policy bundle judged when, and how many events.
SELECT
    j.bundle AS bundle,
    b.name AS name,
    b.git_commit AS git_commit,
    b.loaded_by AS loaded_by,
    j.first_judged AS first_judged,
    j.last_judged AS last_judged,
    j.events AS events
FROM
(
    SELECT bundle, min(ingest_time) AS first_judged, max(ingest_time) AS last_judged, count() AS events
    FROM usage_events
    GROUP BY bundle
) AS j
LEFT JOIN (SELECT hash, name, git_commit, loaded_by FROM bundles) AS b ON b.hash = j.bundle
ORDER BY first_judged, bundle
