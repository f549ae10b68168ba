"""Who is told of alerts, and how: what an `alerts.yaml` says.

`settings` has what was read, `read_alerts` reads it, and `alerts_schema` is what editors complete and check it with.
"""

from usageaudit.alerts.config.fileschema import alerts_schema, alerts_schema_text
from usageaudit.alerts.config.reading import InvalidAlerts, read_alerts

__all__ = ["InvalidAlerts", "alerts_schema", "alerts_schema_text", "read_alerts"]
