"""Prometheus Alertmanager: `POST /api/v2/alerts`.

Source: https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml

Alertmanager knows an alert by its labels, so they hold only what stays the same from its beginning to its end; the
rest are annotations. It takes an alert for resolved when `endsAt` has passed, and sets that to five minutes from now
where none is given: what is sent once here would resolve itself at once, so an end lies a day ahead.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from usageaudit.alerts.targets.settled import filled, revealed
from usageaudit.alerts.targets.text import evidence_text, fit, group_text, headline, link, lookup
from usageaudit.alerts.web import Web
from usageaudit.events.times import parse_time

if TYPE_CHECKING:
    from usageaudit.alerts.config.settings import AlertmanagerSettings, Network
    from usageaudit.alerts.model import Alert, Notification
    from usageaudit.alerts.targets.port import Answer

PATH = "/api/v2/alerts"
HELD = timedelta(days=1)
"""How long an alert fires that nobody resolves."""
MOST_LABEL, MOST_ANNOTATION, MOST_GROUPS, MOST_NAME = 1_024, 4_096, 20, 100
_NO_NAME = re.compile(r"[^A-Za-z0-9_]")


def render(notification: Notification, now: datetime, text: str = "") -> list[dict[str, Any]]:
    """Return the body of the request; `text` stands in the place of the alert's message, `now` has a zone."""
    alert = notification.alert
    ends = now if alert.status == "resolved" else now + HELD
    return [
        {
            "labels": _labels(alert),
            "annotations": _annotations(notification, text),
            "startsAt": _time(min(_first(alert, now), ends)),
            "endsAt": _time(ends),
        }
    ]


def _labels(alert: Alert) -> dict[str, str]:
    gathered = sorted(alert.group.items())[:MOST_GROUPS]
    found = {f"group_{_NO_NAME.sub('_', name[:MOST_NAME])}": value for name, value in gathered}
    found |= {
        "alertname": fit(alert.policy_id, MOST_LABEL) or "usageaudit",
        "severity": alert.severity,
        "alert_id": alert.alert_id,
        "kind": alert.kind,
        "application": alert.application,
        "team": alert.team,
        "organization": alert.organization,
        "model": alert.model,
    }
    return _filled({name: fit(value, MOST_LABEL) for name, value in found.items()})


def _annotations(notification: Notification, text: str) -> dict[str, str]:
    alert = notification.alert
    found = {
        "summary": headline(notification),
        "description": text or alert.message,
        "count": str(alert.count),
        "policy_version": str(alert.policy_version),
        "violation_id": alert.violation_id,
        "first_time": alert.first_time,
        "group": group_text(alert),
        "evidence": evidence_text(alert),
        "event": " ".join(filter(None, (alert.event_source, alert.event_id))),
        "bundle": alert.bundle,
        "acknowledge_url": link(alert.acknowledge_url),
        "lookup": lookup(notification),
        "occasion": notification.occasion,
        "delivery_id": notification.delivery_id,
    }
    return _filled({name: fit(value, MOST_ANNOTATION, lines=True) for name, value in found.items()})


def _filled(found: dict[str, str]) -> dict[str, str]:
    """Leave out what is empty: Alertmanager takes an empty label for one that is not there."""
    return {name: value for name, value in found.items() if value}


def _first(alert: Alert, now: datetime) -> datetime:
    try:
        return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=parse_time(alert.first_time))
    except ValueError:
        return now


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class AlertmanagerTarget:
    """Posts to a Prometheus Alertmanager."""

    def __init__(self, settings: AlertmanagerSettings, network: Network) -> None:
        self._settings, self._web = settings, Web(network, settings.seconds)

    def deliver(self, notification: Notification) -> Answer:
        """Post the alert. Raises DeliveryFailed."""
        settings = self._settings
        url = revealed(settings.url, settings.name).rstrip("/") + PATH
        token = revealed(settings.token, settings.name) if settings.token else ""
        alerts = render(notification, datetime.now(UTC), filled(settings.template, notification.alert))
        return self._web.post(
            url,
            name=settings.name,
            json=alerts,
            headers={"authorization": f"Bearer {token}"} if token else {},
            secrets=[token] if token else [],
        )

    def close(self) -> None:
        """Nothing stays open."""
