"""Opens the target of its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usageaudit.alerts.config.settings import (
    AlertmanagerSettings,
    AppriseSettings,
    EmailSettings,
    KafkaSettings,
    PagerDutySettings,
    SlackSettings,
    TeamsSettings,
)
from usageaudit.alerts.targets.alertmanager import AlertmanagerTarget
from usageaudit.alerts.targets.apprise import AppriseTarget
from usageaudit.alerts.targets.email import EmailTarget
from usageaudit.alerts.targets.kafka import KafkaTarget
from usageaudit.alerts.targets.pagerduty import PagerDutyTarget
from usageaudit.alerts.targets.slack import SlackTarget
from usageaudit.alerts.targets.teams import TeamsTarget
from usageaudit.alerts.targets.webhook import WebhookTarget

if TYPE_CHECKING:
    from usageaudit.alerts.config.settings import Network, TargetSettings
    from usageaudit.alerts.targets.port import Target


def open_target(settings: TargetSettings, network: Network) -> Target:
    """Return the target; nothing is connected yet.

    `network` does not hold for Kafka, whose brokers name their own addresses, nor for Apprise. Raises
    ConfigurationError for a target of Apprise that is not installed, or may not connect by itself.
    """
    match settings:
        case AlertmanagerSettings():
            return AlertmanagerTarget(settings, network)
        case PagerDutySettings():
            return PagerDutyTarget(settings, network)
        case SlackSettings():
            return SlackTarget(settings, network)
        case TeamsSettings():
            return TeamsTarget(settings, network)
        case EmailSettings():
            return EmailTarget(settings, network)
        case KafkaSettings():
            return KafkaTarget(settings)
        case AppriseSettings():
            return AppriseTarget(settings)
    return WebhookTarget(settings, network)
