"""Microsoft Teams: an Adaptive Card for the workflow "When a Teams webhook request is received".

Sources: https://learn.microsoft.com/en-us/connectors/teams/ (a message of about 28 KB is the most that is taken) and
https://github.com/microsoft/AdaptiveCards/blob/main/schemas/src (TextRun: "Markdown is not supported")

Text of an alert stands in runs of rich text, which know no Markdown, and a mention needs an entry in the card's
`msteams.entities`, of which there is none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from usageaudit.alerts.targets.settled import filled, revealed
from usageaudit.alerts.targets.text import facts, fit, headline, link, lookup
from usageaudit.alerts.web import Web

if TYPE_CHECKING:
    from usageaudit.alerts.config.settings import Network, TeamsSettings
    from usageaudit.alerts.model import Notification
    from usageaudit.alerts.targets.port import Answer

MOST_HEADLINE, MOST_BODY, MOST_VALUE, MOST_PARAGRAPHS = 256, 2_000, 300, 20
"""A UTF-16 code unit takes three bytes at most, so that a card stays below 25 KB."""
SCHEMA = "http://adaptivecards.io/schemas/adaptive-card.json"
CONTENT_TYPE = "application/vnd.microsoft.card.adaptive"


def render(notification: Notification, text: str = "") -> dict[str, Any]:
    """Return the body of the request; `text` stands in the place of the alert's message."""
    alert = notification.alert
    body = [_block(_run(fit(headline(notification), MOST_HEADLINE), size="Large", weight="Bolder"))]
    if message := fit(text or alert.message, MOST_BODY, lines=True):
        body += [_block(_run(line)) for line in _paragraphs(message)]
    body += [
        _block(_run(f"{fact.title}: ", weight="Bolder"), _run(fit(fact.value, MOST_VALUE)))
        for fact in facts(alert)
        if fit(fact.value, MOST_VALUE)
    ]
    if shown := lookup(notification):
        body.append(_block(_run(shown, fontType="Monospace")))
    card: dict[str, Any] = {"$schema": SCHEMA, "type": "AdaptiveCard", "version": "1.4", "body": body}
    if url := link(alert.acknowledge_url):
        card["actions"] = [{"type": "Action.OpenUrl", "title": "Acknowledge", "url": url}]
    return {"type": "message", "attachments": [{"contentType": CONTENT_TYPE, "contentUrl": None, "content": card}]}


def _paragraphs(message: str) -> list[str]:
    """Return the lines, of which each is a block of its own: a run of text has no breaks everywhere."""
    found = [line for line in message.split("\n") if line.strip()]
    first, rest = found[: MOST_PARAGRAPHS - 1], " ".join(found[MOST_PARAGRAPHS - 1 :])
    return [*first, rest] if rest else first


def _block(*runs: dict[str, Any]) -> dict[str, Any]:
    return {"type": "RichTextBlock", "inlines": list(runs)}


def _run(text: str, **form: str) -> dict[str, Any]:
    return {"type": "TextRun", "text": text, **form}


class TeamsTarget:
    """Posts to a channel of Microsoft Teams."""

    def __init__(self, settings: TeamsSettings, network: Network) -> None:
        self._settings, self._web = settings, Web(network, settings.seconds)

    def deliver(self, notification: Notification) -> Answer:
        """Post the card. Raises DeliveryFailed."""
        settings = self._settings
        message = render(notification, filled(settings.template, notification.alert))
        return self._web.post(revealed(settings.url, settings.name), name=settings.name, json=message)

    def close(self) -> None:
        """Nothing stays open."""
