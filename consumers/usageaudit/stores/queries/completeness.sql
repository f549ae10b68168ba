-- Per partition: records of each status and whether every offset between the first and the last is there once.
SELECT
    stream,
    topic,
    partition,
    min(offset) AS first_offset,
    max(offset) AS last_offset,
    count() AS records,
    countIf(status = 'accepted') AS accepted,
    countIf(status = 'duplicate') AS duplicates,
    countIf(status = 'rejected') AS rejected,
    last_offset - first_offset + 1 - uniqExact(offset) AS missing_offsets,
    records - uniqExact(offset) AS repeated_offsets
FROM stream_records
GROUP BY stream, topic, partition
ORDER BY topic, partition, stream
