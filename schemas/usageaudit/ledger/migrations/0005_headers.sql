-- Headers of rejected records: in binary mode they say half of the event, and are needed to publish it again.

ALTER TABLE rejected_payloads ADD COLUMN IF NOT EXISTS `header_names` Array(String);

ALTER TABLE rejected_payloads ADD COLUMN IF NOT EXISTS `header_values` Array(String);
