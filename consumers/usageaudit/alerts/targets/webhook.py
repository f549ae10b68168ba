"""Webhooks: alerts as JSON, signed as Standard Webhooks says.

The id of a webhook is that of the delivery, so that every attempt has the same; its time is that of the attempt.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from usageaudit.alerts.signing import key_of, signed_headers
from usageaudit.alerts.targets.port import Answer, DeliveryFailed
from usageaudit.alerts.web import Web
from usageaudit.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from usageaudit.alerts.config.settings import Network, WebhookSettings
    from usageaudit.alerts.model import Alert, Notification

TYPE = "io.usageaudit.alert"
"""What the types of bodies begin with; the occasion follows."""


class WebhookTarget:
    """A receiver of webhooks; `now` is the time in seconds since 1970."""

    def __init__(
        self,
        settings: WebhookSettings,
        network: Network,
        *,
        web: Web | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._settings, self._now = settings, now
        self._web = Web(network, settings.seconds) if web is None else web

    def deliver(self, notification: Notification) -> Answer:
        """Send one webhook. Raises DeliveryFailed."""
        try:
            url, revealed = self._settings.url.reveal(), [secret.reveal() for secret in self._settings.secrets]
            keys = [key_of(secret) for secret in revealed]
        except ConfigurationError as error:  # a file of a secret may come back
            raise DeliveryFailed(f"{self._settings.name}: {error}", again=True) from None
        now = self._now()
        body = orjson.dumps(payload(notification, now))
        headers = signed_headers(keys, notification.delivery_id, int(now), body)
        return self._web.post(url, name=self._settings.name, content=body, headers=headers, secrets=revealed)

    def close(self) -> None:
        """Nothing is kept open."""


def payload(notification: Notification, now: float) -> dict[str, Any]:
    """Return the body of a webhook, as docs/webhooks.md says; `now` is in seconds since 1970."""
    occurred = notification.alert.first_time if notification.occasion == "opened" else ""
    return {
        "type": f"{TYPE}.{notification.occasion}",
        "timestamp": occurred or _text_of(now),
        "data": _data(notification.alert),
    }


def _text_of(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _data(alert: Alert) -> dict[str, Any]:
    return {
        "alert_id": alert.alert_id,
        "status": alert.status,
        "kind": alert.kind,
        "policy_id": alert.policy_id,
        "policy_version": alert.policy_version,
        "severity": alert.severity,
        "message": alert.message,
        "violation_id": alert.violation_id,
        "first_time": alert.first_time,
        "group": dict(alert.group),
        "count": alert.count,
        "application": alert.application,
        "team": alert.team,
        "organization": alert.organization,
        "model": alert.model,
        "event_source": alert.event_source,
        "event_id": alert.event_id,
        "evidence": _evidence(alert.evidence),
        "bundle": alert.bundle,
        "acknowledge_url": alert.acknowledge_url,
    }


def _evidence(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:  # what an older version wrote may be cut
        return {}
