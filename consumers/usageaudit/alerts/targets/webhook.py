"""Webhooks: alerts as JSON, signed as Standard Webhooks says.

The id of a webhook is that of the delivery, so that every attempt has the same; its time is that of the attempt.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import orjson

from usageaudit.alerts.signing import key_of, signed_headers
from usageaudit.alerts.targets.port import Answer, DeliveryFailed
from usageaudit.alerts.targets.webhook_body import payload
from usageaudit.alerts.web import Web
from usageaudit.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from usageaudit.alerts.config.settings import Network, WebhookSettings
    from usageaudit.alerts.model import Notification


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
