"""PagerDuty's Events API v2: `POST https://events.pagerduty.com/v2/enqueue`.

Sources: https://developer.pagerduty.com/docs/events-api-v2/trigger-events/ and
https://developer.pagerduty.com/docs/events-api-v2/overview/ (PagerDuty/developer-docs, PagerDuty/api-schema)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from usageaudit.alerts.targets.settled import filled, revealed
from usageaudit.alerts.targets.text import evidence_text, fit, group_text, headline, link, lookup
from usageaudit.alerts.web import Web
from usageaudit.events.times import parse_time

if TYPE_CHECKING:
    from usageaudit.alerts.config.settings import Network, PagerDutySettings
    from usageaudit.alerts.model import Alert, Notification
    from usageaudit.alerts.targets.port import Answer
    from usageaudit.verdicts import Severity

MOST_KEY, MOST_SUMMARY, MOST_DETAIL, MOST_EVIDENCE = 255, 1_024, 4_096, 32_768
"""The lengths of the rest are chosen so that an event stays far below the 512 KB that are taken."""
SEVERITIES: dict[Severity, str] = {
    "critical": "critical",
    "high": "error",
    "medium": "warning",
    "low": "warning",
    "info": "info",
}


def render(notification: Notification, routing_key: str, text: str = "") -> dict[str, Any]:
    """Return the body of the request; `text` stands in the place of the alert's message."""
    alert = notification.alert
    event = {"routing_key": routing_key, "dedup_key": fit(alert.alert_id, MOST_KEY)}
    if notification.occasion == "resolved":
        return event | {"event_action": "resolve"}
    if notification.occasion == "acknowledged":
        return event | {"event_action": "acknowledge"}
    url = link(alert.acknowledge_url)
    links = [{"href": url, "text": "Acknowledge in usageaudit"}] if url else []
    return event | {
        "event_action": "trigger",
        "client": "usageaudit",
        "payload": _payload(notification, text or alert.message),
        "links": links,
    }


def _payload(notification: Notification, text: str) -> dict[str, Any]:
    alert = notification.alert
    summary = f"{headline(notification)}: {text}" if text.strip() else headline(notification)
    payload = {
        "summary": fit(summary, MOST_SUMMARY),
        "severity": SEVERITIES[alert.severity],
        "source": fit(alert.event_source or alert.application, MOST_SUMMARY) or "usageaudit",
        "component": fit(alert.application, MOST_SUMMARY),
        "group": fit(alert.policy_id, MOST_SUMMARY),
        "class": fit(alert.kind, MOST_SUMMARY),
        "custom_details": _details(notification, text),
    }
    if _is_time(alert.first_time):
        payload["timestamp"] = alert.first_time
    return payload


def _details(notification: Notification, text: str) -> dict[str, Any]:
    alert = notification.alert
    found = {
        "message": text,
        "policy_id": alert.policy_id,
        "policy_version": str(alert.policy_version),
        "severity": alert.severity,
        "count": str(alert.count),
        "first_time": alert.first_time,
        "violation_id": alert.violation_id,
        "team": alert.team,
        "organization": alert.organization,
        "model": alert.model,
        "group": group_text(alert),
        "event_id": alert.event_id,
        "bundle": alert.bundle,
        "lookup": lookup(notification),
        "occasion": notification.occasion,
        "delivery_id": notification.delivery_id,
    }
    details = {name: fit(value, MOST_DETAIL, lines=True) for name, value in found.items()}
    details["evidence"] = _evidence(alert)
    return {name: value for name, value in details.items() if value}


def _evidence(alert: Alert) -> str:
    return fit(evidence_text(alert), MOST_EVIDENCE)


def _is_time(text: str) -> bool:
    try:
        parse_time(text)
    except ValueError:
        return False
    return True


class PagerDutyTarget:
    """Triggers, acknowledges and resolves alerts of a service of PagerDuty."""

    acknowledges: Literal[True] = True

    def __init__(self, settings: PagerDutySettings, network: Network) -> None:
        self._settings, self._web = settings, Web(network, settings.seconds)

    def deliver(self, notification: Notification) -> Answer:
        """Send the event. Raises DeliveryFailed."""
        settings = self._settings
        key = revealed(settings.routing_key, settings.name)
        event = render(notification, key, filled(settings.template, notification.alert))
        return self._web.post(settings.url, name=settings.name, json=event, secrets=[key])

    def close(self) -> None:
        """Nothing stays open."""
