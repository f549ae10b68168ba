"""Apprise (https://github.com/caronc/apprise), for all who have no target of their own here.

Apprise makes its own connections: the rules of the network that hold for other targets can't be kept there. So it is
used only by a target that says `own_connections: true`.
"""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from usageaudit.alerts.targets.port import Answer, DeliveryFailed
from usageaudit.alerts.targets.settled import filled, revealed
from usageaudit.alerts.targets.text import facts, fit, headline, link, lookup
from usageaudit.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usageaudit.alerts.config.settings import AppriseSettings
    from usageaudit.alerts.model import Notification

MOST_TITLE, MOST_BODY, MOST_VALUE = 200, 3_000, 500
_APART = "\u200b"
_MARKUP = "@<]"
"""What mentions and links begin with, or go on with, in the markup of one service or another."""


def render(notification: Notification, text: str = "") -> tuple[str, str]:
    """Return title and body; `text` stands in the place of the alert's message.

    Whom Apprise tells, and what markup they know, is not known here: an invisible space breaks mentions and links.
    """
    alert = notification.alert
    message = fit(text or alert.message, MOST_BODY, lines=True, written=_apart)
    table = [f"{fact.title}: {fit(fact.value, MOST_VALUE, written=_apart)}" for fact in facts(alert)]
    url = link(alert.acknowledge_url)
    parts = (message, "\n".join(table), lookup(notification), f"Acknowledge: {url}" if url else "")
    title = fit(headline(notification), MOST_TITLE, written=_apart)
    return title, "\n\n".join(part for part in parts if part)


def _apart(character: str) -> str:
    return character + _APART if character in _MARKUP else character


class AppriseTarget:
    """Tells whomever a URL of Apprise names.

    Making one raises ConfigurationError where Apprise is not installed, or not allowed to connect by itself.
    """

    def __init__(self, settings: AppriseSettings) -> None:
        if not settings.own_connections:
            raise ConfigurationError(
                f"the target {settings.name} uses Apprise, which connects by itself, so that the network rules do not "
                "hold; allow it with own_connections: true, or use another kind of target"
            )
        self._settings, self._apprise = settings, _library(settings.name)

    def deliver(self, notification: Notification) -> Answer:
        """Tell them; Apprise says no more than whether it went well. Raises DeliveryFailed."""
        settings = self._settings
        title, body = render(notification, filled(settings.template, notification.alert))
        if not self._notify(title, body):
            raise DeliveryFailed(f"Apprise did not deliver to {settings.name}; its log may say why", again=True)
        return Answer(said="Apprise delivered it")

    def close(self) -> None:
        """Nothing stays open."""

    def _notify(self, title: str, body: str) -> bool:
        settings, apprise = self._settings, self._apprise
        asset = apprise.AppriseAsset(storage_mode=apprise.PersistentStoreMode.MEMORY, allow_templates=False)
        service = apprise.Apprise(asset=asset)
        with _unheard():
            known = service.add(revealed(settings.url, settings.name))
        if not known:
            raise DeliveryFailed(f"Apprise does not know the URL of {settings.name} ({settings.url})", again=False)
        return bool(service.notify(body, title, body_format=apprise.NotifyFormat.TEXT, timeout=settings.seconds))


@contextmanager
def _unheard() -> Iterator[None]:
    """Let Apprise log nothing of this thread: what it says of a URL that it does not know is the whole URL."""
    log, here = logging.getLogger("apprise"), threading.get_ident()

    def of_others(record: logging.LogRecord) -> bool:
        return record.thread != here

    log.addFilter(of_others)
    try:
        yield
    finally:
        log.removeFilter(of_others)


def _library(name: str) -> Any:
    try:
        import apprise
    except ImportError as error:
        raise ConfigurationError(
            f"the target {name} needs Apprise, which is not installed: pip install apprise"
        ) from error
    return apprise
