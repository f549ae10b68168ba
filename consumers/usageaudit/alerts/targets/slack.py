"""Slack: a message of Block Kit for an incoming webhook.

Sources: https://docs.slack.dev/reference/block-kit/blocks and
https://docs.slack.dev/messaging/formatting-message-text

Text of an alert is `plain_text` everywhere, which knows no bold, no links and no mentions, with `&`, `<` and `>`
escaped all the same: they are what mentions such as `<!channel>` and links are written with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from usageaudit.alerts.targets.settled import filled, revealed
from usageaudit.alerts.targets.text import facts, fit, headline, link, lookup
from usageaudit.alerts.web import Web

if TYPE_CHECKING:
    from usageaudit.alerts.config.settings import Network, SlackSettings
    from usageaudit.alerts.model import Notification
    from usageaudit.alerts.targets.port import Answer

MOST_HEADER, MOST_SECTION, MOST_FIELD, MOST_FIELDS = 150, 3_000, 2_000, 10
_ESCAPED = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def render(notification: Notification, text: str = "") -> dict[str, Any]:
    """Return the body of the request; `text` stands in the place of the alert's message."""
    header = _plain(headline(notification), MOST_HEADER)
    body = _plain(text or notification.alert.message, MOST_SECTION, lines=True)
    blocks: list[dict[str, Any]] = [{"type": "header", "text": header}]
    if body["text"]:
        blocks.append({"type": "section", "text": body})
    fields = [_plain(f"{fact.title}\n{fact.value}", MOST_FIELD, lines=True) for fact in facts(notification.alert)]
    starts = range(0, len(fields), MOST_FIELDS)
    blocks += [{"type": "section", "fields": fields[start : start + MOST_FIELDS]} for start in starts]
    if shown := lookup(notification):
        blocks.append({"type": "context", "elements": [_plain(shown, MOST_FIELD)]})
    if url := link(notification.alert.acknowledge_url):
        acknowledge = {"type": "mrkdwn", "text": f"<{url.replace('&', '&amp;')}|Acknowledge>"}
        blocks.append({"type": "section", "text": acknowledge})
    # What a client shows that shows no blocks, such as a notification on a telephone.
    plain = {"text": header["text"], "mrkdwn": False, "unfurl_links": False, "unfurl_media": False}
    return plain | {"blocks": blocks}


def _plain(text: str, most: int, *, lines: bool = False) -> dict[str, Any]:
    return {"type": "plain_text", "text": fit(text, most, lines=lines, written=_escaped), "emoji": False}


def _escaped(character: str) -> str:
    return _ESCAPED.get(character, character)


class SlackTarget:
    """Posts to a channel of Slack."""

    def __init__(self, settings: SlackSettings, network: Network) -> None:
        self._settings, self._web = settings, Web(network, settings.seconds)

    def deliver(self, notification: Notification) -> Answer:
        """Post the message. Raises DeliveryFailed."""
        settings = self._settings
        message = render(notification, filled(settings.template, notification.alert))
        return self._web.post(revealed(settings.url, settings.name), name=settings.name, json=message)

    def close(self) -> None:
        """Nothing stays open."""
