-- Why records were refused: the field and what is wrong with it, with the latest record to look at.
-- since Date = 1970-01-01: first day of recording that counts, UTC
-- until Date = 2106-01-01: first day of recording that no longer counts, UTC
-- rows UInt32 = 100: how many rows at most
SELECT
    topic,
    error_path,
    error,
    count() AS records,
    min(ingest_time) AS first_refused,
    max(ingest_time) AS last_refused,
    argMax(partition, (ingest_time, offset)) AS latest_partition,
    argMax(offset, (ingest_time, offset)) AS latest_offset
FROM rejects
WHERE ingest_time >= {since:Date} AND ingest_time < {until:Date}
GROUP BY topic, error_path, error
ORDER BY records DESC, topic, error_path, error
LIMIT {rows:UInt32}
