-- The logins of usageaudit on a ClickHouse server of 25.8 or later, each with what its part needs and nothing else.
-- Run it in usageaudit's database, which has to be there, and again after an upgrade that brings new views or tables:
--
--     clickhouse-client --user admin --database usageaudit --queries-file users.sql \
--         --param_migrate=HASH --param_ingest=HASH --param_schedule=HASH --param_alert=HASH --param_read=HASH --param_review=HASH \
--         --param_operate=HASH
--
-- HASH is the SHA-256 of a password in hex; apply.sh makes them of files with passwords.

-- Nobody can log in as this one. Views read as it, so whoever may read a view needs nothing of what lies below it.
CREATE USER IF NOT EXISTS usageaudit_views IDENTIFIED WITH no_password HOST NONE;
ALTER USER usageaudit_views IDENTIFIED WITH no_password HOST NONE;
GRANT SELECT ON * TO usageaudit_views;
REVOKE SELECT ON rejected_payloads FROM usageaudit_views;

-- `usageaudit migrate`: makes tables and views, and changes no row. The server lets nobody make a view of what they may
-- not read, and to replace one it asks for INSERT on the view, into which nobody can insert, and for dropping the old one,
-- which it has given a name that begins with _tmp_replace_.
CREATE USER IF NOT EXISTS usageaudit_migrate IDENTIFIED WITH sha256_hash BY {migrate:String};
ALTER USER usageaudit_migrate IDENTIFIED WITH sha256_hash BY {migrate:String};
GRANT SHOW TABLES, SHOW COLUMNS, SELECT, CREATE TABLE, CREATE VIEW, DROP VIEW, ALTER ON * TO usageaudit_migrate;
REVOKE ALTER UPDATE, ALTER DELETE ON * FROM usageaudit_migrate;
REVOKE SELECT ON rejected_payloads FROM usageaudit_migrate;
GRANT DROP TABLE ON _tmp_replace_* TO usageaudit_migrate;
GRANT INSERT ON schema_migrations TO usageaudit_migrate;
GRANT INSERT ON alert_deliveries TO usageaudit_migrate;
GRANT INSERT ON alerts TO usageaudit_migrate;
GRANT INSERT ON bundles TO usageaudit_migrate;
GRANT INSERT ON declaration_coverage TO usageaudit_migrate;
GRANT INSERT ON findings TO usageaudit_migrate;
GRANT INSERT ON indeterminates TO usageaudit_migrate;
GRANT INSERT ON indeterminates_hourly TO usageaudit_migrate;
GRANT INSERT ON policy_approvals TO usageaudit_migrate;
GRANT INSERT ON rejects TO usageaudit_migrate;
GRANT INSERT ON stream_records TO usageaudit_migrate;
GRANT INSERT ON usage_by_purpose_hourly TO usageaudit_migrate;
GRANT INSERT ON usage_daily TO usageaudit_migrate;
GRANT INSERT ON usage_events TO usageaudit_migrate;
GRANT INSERT ON usage_hourly TO usageaudit_migrate;
GRANT INSERT ON violations TO usageaudit_migrate;
GRANT INSERT ON violations_by_organization_hourly TO usageaudit_migrate;
GRANT INSERT ON violations_daily TO usageaudit_migrate;
GRANT INSERT ON violations_hourly TO usageaudit_migrate;

-- The consumer: takes partitions over, reads back, appends. All consumers use this one login: it may end the inserts of
-- the owner before, because they are its own.
CREATE USER IF NOT EXISTS usageaudit_ingest IDENTIFIED WITH sha256_hash BY {ingest:String};
ALTER USER usageaudit_ingest IDENTIFIED WITH sha256_hash BY {ingest:String};
GRANT SELECT(stream, topic, partition, offset, status, event_time, event_source, event_id) ON ledger
    TO usageaudit_ingest;
GRANT SELECT ON fence TO usageaudit_ingest;
GRANT SELECT ON schema_migrations TO usageaudit_ingest;
GRANT SELECT ON bundles_log TO usageaudit_ingest;
GRANT SELECT(bundle) ON policy_approvals_log TO usageaudit_ingest;
GRANT SELECT(finding_id) ON findings_log TO usageaudit_ingest;
GRANT INSERT ON ledger TO usageaudit_ingest;
GRANT INSERT ON fence TO usageaudit_ingest;
GRANT INSERT ON rejected_payloads TO usageaudit_ingest;
GRANT INSERT ON bundles_log TO usageaudit_ingest;
GRANT INSERT ON policy_approvals_log TO usageaudit_ingest;
GRANT INSERT ON findings_log TO usageaudit_ingest;
GRANT SELECT ON system.processes TO usageaudit_ingest;
-- A batch is read from the table function input(), and looked up by a table that is sent along.
GRANT CREATE TEMPORARY TABLE ON *.* TO usageaudit_ingest;

-- `usageaudit schedule`: reads what events say, as its policies do, but not their bytes, and appends findings.
CREATE USER IF NOT EXISTS usageaudit_schedule IDENTIFIED WITH sha256_hash BY {schedule:String};
ALTER USER usageaudit_schedule IDENTIFIED WITH sha256_hash BY {schedule:String};
GRANT SELECT ON ledger TO usageaudit_schedule;
REVOKE SELECT(raw) ON ledger FROM usageaudit_schedule;
GRANT SELECT ON fence TO usageaudit_schedule;
GRANT SELECT ON schema_migrations TO usageaudit_schedule;
GRANT SELECT ON bundles_log TO usageaudit_schedule;
GRANT SELECT(bundle) ON policy_approvals_log TO usageaudit_schedule;
GRANT SELECT ON findings_log TO usageaudit_schedule;
GRANT SELECT, INSERT ON window_events TO usageaudit_schedule;
GRANT SELECT, INSERT ON window_progress TO usageaudit_schedule;
GRANT SELECT, INSERT ON leases TO usageaudit_schedule;
GRANT INSERT ON fence TO usageaudit_schedule;
GRANT INSERT ON bundles_log TO usageaudit_schedule;
GRANT INSERT ON policy_approvals_log TO usageaudit_schedule;
GRANT INSERT ON findings_log TO usageaudit_schedule;
GRANT SELECT ON system.processes TO usageaudit_schedule;
-- It removes rows of windows that are over, which the ledger has for good; a light DELETE sets a mark.
GRANT ALTER DELETE, ALTER UPDATE(_row_exists) ON window_events TO usageaudit_schedule;
GRANT ALTER DELETE, ALTER UPDATE(_row_exists) ON window_progress TO usageaudit_schedule;

-- `usageaudit alerts run`: reads what violations say, but not the bytes of events, and keeps what it decides and sends.
CREATE USER IF NOT EXISTS usageaudit_alert IDENTIFIED WITH sha256_hash BY {alert:String};
ALTER USER usageaudit_alert IDENTIFIED WITH sha256_hash BY {alert:String};
GRANT SELECT ON ledger TO usageaudit_alert;
REVOKE SELECT(raw) ON ledger FROM usageaudit_alert;
GRANT SELECT ON fence TO usageaudit_alert;
GRANT SELECT ON schema_migrations TO usageaudit_alert;
GRANT SELECT ON bundles_log TO usageaudit_alert;
GRANT SELECT(bundle) ON policy_approvals_log TO usageaudit_alert;
GRANT SELECT ON findings TO usageaudit_alert;
GRANT SELECT ON findings_log TO usageaudit_alert;
GRANT SELECT, INSERT ON alert_decisions TO usageaudit_alert;
GRANT SELECT, INSERT ON alert_deliveries_log TO usageaudit_alert;
GRANT SELECT, INSERT ON alert_acknowledgements TO usageaudit_alert;
GRANT SELECT, INSERT ON alert_progress TO usageaudit_alert;
GRANT SELECT, INSERT ON leases TO usageaudit_alert;
GRANT INSERT ON fence TO usageaudit_alert;
GRANT INSERT ON bundles_log TO usageaudit_alert;
GRANT INSERT ON policy_approvals_log TO usageaudit_alert;
GRANT INSERT ON findings_log TO usageaudit_alert;
GRANT SELECT ON system.processes TO usageaudit_alert;
GRANT CREATE TEMPORARY TABLE ON *.* TO usageaudit_alert;

-- Analysts and Grafana: the views, without the bytes of events and of policies, within limits, of which 0 would be none.
-- The setting `readonly` would keep `usageaudit query` from setting its own limits; there is nothing to write anyway.
CREATE SETTINGS PROFILE IF NOT EXISTS usageaudit_read;
ALTER SETTINGS PROFILE usageaudit_read SETTINGS
    max_execution_time = 60 MIN 1 MAX 300, timeout_overflow_mode = 'throw' CONST,
    max_memory_usage = 2147483648 MIN 1 MAX 4294967296,
    max_result_rows = 1000000 MIN 1 MAX 10000000, max_result_bytes = 2147483648 MIN 1 MAX 4294967296,
    max_concurrent_queries_for_user = 20 CONST, max_threads = 4 MIN 1 MAX 8;
CREATE USER IF NOT EXISTS usageaudit_read IDENTIFIED WITH sha256_hash BY {read:String};
ALTER USER usageaudit_read IDENTIFIED WITH sha256_hash BY {read:String} SETTINGS PROFILE usageaudit_read;
GRANT SELECT ON alert_deliveries TO usageaudit_read;
GRANT SELECT ON alerts TO usageaudit_read;
GRANT SELECT ON bundles TO usageaudit_read;
GRANT SELECT ON declaration_coverage TO usageaudit_read;
GRANT SELECT ON findings TO usageaudit_read;
GRANT SELECT ON indeterminates TO usageaudit_read;
GRANT SELECT ON indeterminates_hourly TO usageaudit_read;
GRANT SELECT ON policy_approvals TO usageaudit_read;
GRANT SELECT ON rejects TO usageaudit_read;
GRANT SELECT ON stream_records TO usageaudit_read;
GRANT SELECT ON usage_by_purpose_hourly TO usageaudit_read;
GRANT SELECT ON usage_daily TO usageaudit_read;
GRANT SELECT ON usage_events TO usageaudit_read;
GRANT SELECT ON usage_hourly TO usageaudit_read;
GRANT SELECT ON violations TO usageaudit_read;
GRANT SELECT ON violations_by_organization_hourly TO usageaudit_read;
GRANT SELECT ON violations_daily TO usageaudit_read;
GRANT SELECT ON violations_hourly TO usageaudit_read;
REVOKE SELECT(raw) ON usage_events FROM usageaudit_read;
REVOKE SELECT(archive) ON bundles FROM usageaudit_read;
GRANT SELECT ON system.table_functions TO usageaudit_read;

-- Reviewers: the whole record, which `policy backtest`, `report affected` and `policy explain --event` read row by row,
-- and what `policy rejudge` appends: findings, and the bundle that they are by. Not the bytes of refused records.
CREATE SETTINGS PROFILE IF NOT EXISTS usageaudit_review;
ALTER SETTINGS PROFILE usageaudit_review SETTINGS
    max_execution_time = 600 MIN 1 MAX 3600, max_memory_usage = 4294967296 MIN 1 MAX 8589934592,
    max_concurrent_queries_for_user = 10 CONST, max_threads = 8 MIN 1 MAX 16;
CREATE USER IF NOT EXISTS usageaudit_review IDENTIFIED WITH sha256_hash BY {review:String};
ALTER USER usageaudit_review IDENTIFIED WITH sha256_hash BY {review:String} SETTINGS PROFILE usageaudit_review;
GRANT SELECT ON * TO usageaudit_review;
REVOKE SELECT ON rejected_payloads FROM usageaudit_review;
GRANT INSERT ON findings_log TO usageaudit_review;
GRANT INSERT ON bundles_log TO usageaudit_review;
GRANT INSERT ON policy_approvals_log TO usageaudit_review;
GRANT SELECT ON system.table_functions TO usageaudit_review;

-- Operators: `verify`, which appends what it finds, `doctor`, `rejects list|show|replay`, `alerts list|resend`, and the
-- state of the server.
CREATE USER IF NOT EXISTS usageaudit_operate IDENTIFIED WITH sha256_hash BY {operate:String};
ALTER USER usageaudit_operate IDENTIFIED WITH sha256_hash BY {operate:String};
GRANT SELECT ON * TO usageaudit_operate;
GRANT INSERT ON findings_log TO usageaudit_operate;
GRANT INSERT ON alert_deliveries_log TO usageaudit_operate;
GRANT SELECT ON system.table_functions TO usageaudit_operate;
GRANT SELECT ON system.disks TO usageaudit_operate;
GRANT SELECT ON system.parts TO usageaudit_operate;
GRANT SELECT ON system.merges TO usageaudit_operate;
GRANT SELECT ON system.processes TO usageaudit_operate;
GRANT SELECT ON system.asynchronous_metrics TO usageaudit_operate;
GRANT SELECT ON system.errors TO usageaudit_operate;
GRANT SELECT ON system.backups TO usageaudit_operate;
GRANT BACKUP ON * TO usageaudit_operate;
