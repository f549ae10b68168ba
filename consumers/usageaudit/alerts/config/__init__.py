"""Who is told of alerts, and how: what an `alerts.yaml` says.

`settings` has what was read, `read_alerts` reads it, and `alerts_schema` is what editors complete and check it with.
"""
