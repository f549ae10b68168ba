-- Lets the views read as the user usageaudit_views, whom nobody can log in as, instead of as whoever asks: then a login
-- that may read a view needs nothing of the tables below it. Run it in usageaudit's database after every `migrate`; until
-- then readers are refused what a new view shows.

ALTER TABLE alert_deliveries MODIFY SQL SECURITY DEFINER DEFINER = usageaudit_views;
ALTER TABLE alerts MODIFY SQL SECURITY DEFINER DEFINER = usageaudit_views;
ALTER TABLE bundles MODIFY SQL SECURITY DEFINER DEFINER = usageaudit_views;
ALTER TABLE declaration_coverage MODIFY SQL SECURITY DEFINER DEFINER = usageaudit_views;
ALTER TABLE findings MODIFY SQL SECURITY DEFINER DEFINER = usageaudit_views;
ALTER TABLE indeterminates MODIFY SQL SECURITY DEFINER DEFINER = usageaudit_views;
ALTER TABLE indeterminates_hourly MODIFY SQL SECURITY DEFINER DEFINER = usageaudit_views;
ALTER TABLE policy_approvals MODIFY SQL SECURITY DEFINER DEFINER = usageaudit_views;
ALTER TABLE rejects MODIFY SQL SECURITY DEFINER DEFINER = usageaudit_views;
ALTER TABLE stream_records MODIFY SQL SECURITY DEFINER DEFINER = usageaudit_views;
ALTER TABLE usage_by_purpose_hourly MODIFY SQL SECURITY DEFINER DEFINER = usageaudit_views;
ALTER TABLE usage_daily MODIFY SQL SECURITY DEFINER DEFINER = usageaudit_views;
ALTER TABLE usage_events MODIFY SQL SECURITY DEFINER DEFINER = usageaudit_views;
ALTER TABLE usage_hourly MODIFY SQL SECURITY DEFINER DEFINER = usageaudit_views;
ALTER TABLE violations MODIFY SQL SECURITY DEFINER DEFINER = usageaudit_views;
ALTER TABLE violations_by_organization_hourly MODIFY SQL SECURITY DEFINER DEFINER = usageaudit_views;
ALTER TABLE violations_daily MODIFY SQL SECURITY DEFINER DEFINER = usageaudit_views;
ALTER TABLE violations_hourly MODIFY SQL SECURITY DEFINER DEFINER = usageaudit_views;
