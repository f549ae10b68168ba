"""What targets take from their settings at each delivery, since secrets and so places may change meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usageaudit.alerts.targets.port import DeliveryFailed
from usageaudit.errors import ConfigurationError

if TYPE_CHECKING:
    from usageaudit.alerts.config.secrets import Url
    from usageaudit.alerts.config.templates import Template
    from usageaudit.alerts.model import Alert


def revealed(secret: Url, name: str) -> str:
    """Return a secret of the target `name`, read anew.

    Raises DeliveryFailed where it can't be read: it may be put in its place before the next attempt.
    """
    try:
        return secret.reveal()
    except ConfigurationError as error:
        raise DeliveryFailed(f"{name}: {error}", again=True) from None


def filled(template: Template | None, alert: Alert) -> str:
    """Return the text that a template makes of an alert, empty where there is no template."""
    return template.fill(alert) if template else ""
