-- Numbers that a publisher gave and that were never accepted: events lost before the stream, or refused.
-- since Date = 1970-01-01: only publishers with an event on or after this day, UTC
WITH incomplete AS
(
    -- Numbers from 1 on without a gap have this count and this sum; only the others are looked at one by one.
    SELECT event_source, publisher_instance
    FROM usage_events
    WHERE isNotNull(publisher_instance) AND isNotNull(publisher_sequence)
    GROUP BY event_source, publisher_instance
    HAVING max(publisher_sequence) != count()
        OR sum(toUInt128(publisher_sequence)) * 2 != toUInt128(count()) * (count() + 1)
)
SELECT
    event_source,
    publisher_instance,
    max(sequence) AS last_seen,
    count() AS events,
    sum(missing_to + 1 - missing_from) AS missing,
    arraySort(groupArrayIf((missing_from, missing_to), missing_to >= missing_from)) AS ranges,
    max(latest) AS last_event
FROM
(
    SELECT
        event_source,
        publisher_instance,
        sequence,
        latest,
        1 + lagInFrame(sequence, 1, 0) OVER (
            PARTITION BY event_source, publisher_instance ORDER BY sequence ROWS BETWEEN 1 PRECEDING AND CURRENT ROW
        ) AS missing_from,
        sequence - 1 AS missing_to
    FROM
    (
        SELECT
            event_source,
            publisher_instance,
            toInt64(assumeNotNull(publisher_sequence)) AS sequence,
            max(event_time) AS latest
        FROM usage_events
        WHERE (event_source, publisher_instance) IN incomplete AND isNotNull(publisher_sequence)
        GROUP BY event_source, publisher_instance, sequence
    )
)
GROUP BY event_source, publisher_instance
HAVING missing > 0 AND last_event >= {since:Date}
ORDER BY missing DESC, event_source, publisher_instance
