"""The published rules of those who take alerts, transcribed, each with its source; `broken` says what a message breaks.

They are written from the publishers' own documents and know nothing of how this project makes its messages.
"""

import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from jsonschema import Draft202012Validator, ValidationError, validators

# https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml, definitions postableAlerts and labelSet;
# names of labels: LabelNameRE of https://github.com/prometheus/common/blob/main/model/labels.go
_TIME = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$"}
_LABEL_SET = {"type": "object", "additionalProperties": {"type": "string"}}
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
ALERTMANAGER = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["labels"],
        "additionalProperties": False,
        "properties": {
            "startsAt": _TIME,
            "endsAt": _TIME,
            "annotations": _LABEL_SET,
            "labels": _LABEL_SET,
            "generatorURL": {"type": "string", "format": "uri"},
        },
    },
}

# https://github.com/PagerDuty/api-schema/blob/main/reference/events-v2/openapiv3.json, and for lengths
# https://developer.pagerduty.com/docs/events-api-v2/trigger-events/
_TEXT = {"type": "string"}
PAGERDUTY = {
    "type": "object",
    "required": ["routing_key", "event_action", "dedup_key"],
    "additionalProperties": False,
    "properties": {
        "routing_key": {"type": "string", "minLength": 32, "maxLength": 32},
        "event_action": {"enum": ["trigger", "acknowledge", "resolve"]},
        "dedup_key": {"type": "string", "minLength": 1, "maxLength": 255},
        "client": _TEXT,
        "client_url": {"type": "string", "format": "uri"},
        "links": {
            "type": "array",
            "items": {"type": "object", "required": ["href"], "properties": {"href": _TEXT, "text": _TEXT}},
        },
        "images": {"type": "array", "items": {"type": "object", "required": ["src"]}},
        "payload": {
            "type": "object",
            "required": ["summary", "severity", "source"],
            "additionalProperties": False,
            "properties": {
                "summary": {"type": "string", "minLength": 1, "maxLength": 1024},
                "source": {"type": "string", "minLength": 1},
                "severity": {"enum": ["critical", "error", "warning", "info"]},
                "timestamp": _TIME,
                "component": _TEXT,
                "group": _TEXT,
                "class": _TEXT,
                "custom_details": {"type": "object"},
            },
        },
    },
    "if": {"properties": {"event_action": {"const": "trigger"}}},
    "then": {"required": ["payload"]},
}
# https://developer.pagerduty.com/docs/events-api-v2/overview/: "Events API payloads are limited to 512 KB"
PAGERDUTY_BYTES = 512 * 1024

# https://docs.slack.dev/reference/block-kit/blocks, …/block-kit/composition-objects/text-object, and
# https://github.com/slackapi/node-slack-sdk (packages/types)


def _slack_text(most: int, *kinds: str) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["type", "text"],
        "additionalProperties": False,
        "properties": {
            "type": {"enum": list(kinds)},
            "text": {"type": "string", "minLength": 1, "maxLength": most},
            "emoji": {"type": "boolean"},
            "verbatim": {"type": "boolean"},
        },
        # emoji: "only usable when type is plain_text", verbatim: "only usable when type is mrkdwn"
        "if": {"properties": {"type": {"const": "plain_text"}}},
        "then": {"not": {"required": ["verbatim"]}},
        "else": {"not": {"required": ["emoji"]}},
    }


def _slack_block(kind: str, *required: str, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["type", *required],
        "additionalProperties": False,
        "properties": {"type": {"const": kind}, "block_id": {"type": "string", "maxLength": 255}, **properties},
    }


_ANY = ("plain_text", "mrkdwn")
SLACK = {
    "type": "object",
    "required": ["text"],
    "additionalProperties": False,
    "properties": {
        "text": {"type": "string", "minLength": 1, "maxLength": 40_000},
        "mrkdwn": {"type": "boolean"},
        "unfurl_links": {"type": "boolean"},
        "unfurl_media": {"type": "boolean"},
        "blocks": {
            "type": "array",
            "minItems": 1,
            "maxItems": 50,
            "items": {
                "oneOf": [
                    _slack_block("header", "text", text=_slack_text(150, "plain_text")),
                    # fields: "Required if no text is provided", and the other way round
                    _slack_block(
                        "section",
                        text=_slack_text(3000, *_ANY),
                        fields={"type": "array", "minItems": 1, "maxItems": 10, "items": _slack_text(2000, *_ANY)},
                    )
                    | {"anyOf": [{"required": ["text"]}, {"required": ["fields"]}]},
                    _slack_block(
                        "context",
                        "elements",
                        elements={"type": "array", "minItems": 1, "maxItems": 10, "items": _slack_text(3000, *_ANY)},
                    ),
                    _slack_block("divider"),
                ]
            },
        },
    },
}
# https://docs.slack.dev/messaging/formatting-message-text: & < > are escaped where they are not meant as markup
_SLACK_MARKUP = re.compile(r"<|>|&(?!amp;|lt;|gt;)")
_SLACK_LINK = re.compile(r"<https?://[^<>|\s]+\|Acknowledge>")

# https://github.com/microsoft/AdaptiveCards/blob/main/schemas/1.4.0/adaptive-card.json, and for the envelope and the
# size https://learn.microsoft.com/en-us/microsoftteams/platform/webhooks-and-connectors/how-to/add-incoming-webhook
_RUN = {
    "type": "object",
    "required": ["type", "text"],
    "additionalProperties": False,
    "properties": {
        "type": {"const": "TextRun"},
        "text": {"type": "string", "minLength": 1},
        "size": {"enum": ["Default", "Small", "Medium", "Large", "ExtraLarge"]},
        "weight": {"enum": ["Default", "Lighter", "Bolder"]},
        "fontType": {"enum": ["Default", "Monospace"]},
    },
}
_CARD = {
    "type": "object",
    "required": ["type", "version", "body"],
    "additionalProperties": False,
    "properties": {
        "$schema": {"type": "string", "format": "uri"},
        "type": {"const": "AdaptiveCard"},
        "version": {"enum": ["1.4", "1.5"]},
        "body": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["type", "inlines"],
                "additionalProperties": False,
                "properties": {"type": {"const": "RichTextBlock"}, "inlines": {"type": "array", "items": _RUN}},
            },
        },
        "actions": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["type", "url"],
                "additionalProperties": False,
                "properties": {
                    "type": {"const": "Action.OpenUrl"},
                    "title": _TEXT,
                    "url": {"type": "string", "format": "uri-reference"},
                },
            },
        },
    },
}
TEAMS = {
    "type": "object",
    "required": ["type", "attachments"],
    "additionalProperties": False,
    "properties": {
        "type": {"const": "message"},
        "attachments": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["contentType", "content"],
                "additionalProperties": False,
                "properties": {
                    "contentType": {"const": "application/vnd.microsoft.card.adaptive"},
                    "contentUrl": {"type": "null"},
                    "content": _CARD,
                },
            },
        },
    },
}
TEAMS_BYTES = 28 * 1000


def broken_by_alertmanager(body: bytes) -> list[str]:
    """Say which rules of Alertmanager's API v2 a request's body breaks."""
    found = _against(ALERTMANAGER, body)
    for alert in json.loads(body) if not found else ():
        names = [*alert["labels"], *alert["annotations"]]
        found += [f"{name!r} is no name of a label" for name in names if not _LABEL_NAME.fullmatch(name)]
        # model/alert.go, Validate: "at least one label pair required", "end time must be after start time"
        found += [] if any(alert["labels"].values()) else ["there must be one label"]
        starts, ends = (datetime.fromisoformat(alert[name]) for name in ("startsAt", "endsAt"))
        found += ["the end is before the beginning"] if ends < starts else []
    return found


def broken_by_pagerduty(body: bytes) -> list[str]:
    """Say which rules of PagerDuty's Events API v2 a request's body breaks."""
    return _against(PAGERDUTY, body) + ([] if len(body) <= PAGERDUTY_BYTES else [f"{len(body)} bytes"])


def broken_by_slack(body: bytes) -> list[str]:
    """Say which rules of Slack a message breaks, and where text of an alert could be taken for markup."""
    found = _against(SLACK, body)
    message = json.loads(body)
    for kind, text in [("text", message["text"]), *_slack_texts(message.get("blocks", []))]:
        marked = _SLACK_LINK.sub("", text) if kind == "mrkdwn" else text
        found += [f"markup in {text!r}"] if _SLACK_MARKUP.search(marked) else []
        found += [f"formatting in {text!r}"] if kind == "mrkdwn" and marked else []
    return found


def broken_by_teams(body: bytes) -> list[str]:
    """Say which rules of Teams a message breaks."""
    return _against(TEAMS, body) + ([] if len(body) <= TEAMS_BYTES else [f"{len(body)} bytes"])


def _slack_texts(blocks: Any) -> Iterator[tuple[str, str]]:
    if isinstance(blocks, dict):
        if isinstance(blocks.get("text"), str):
            yield blocks["type"], blocks["text"]
        blocks = list(blocks.values())
    for one in blocks if isinstance(blocks, list) else ():
        yield from _slack_texts(one)


def _against(schema: dict[str, Any], body: bytes) -> list[str]:
    return [f"{error.json_path}: {error.message[:200]}" for error in _validator(schema).iter_errors(json.loads(body))]


def _validator(schema: dict[str, Any]) -> Any:
    """Return a validator that counts UTF-16 code units, the strictest way in which any of them counts characters."""

    def longest(_: Any, most: int, text: Any, __: Any) -> Iterator[ValidationError]:
        if isinstance(text, str) and (length := len(text.encode("utf-16-le")) // 2) > most:
            yield ValidationError(f"{length} characters, more than {most}")

    extend: Any = validators.extend
    return extend(Draft202012Validator, {"maxLength": longest})(schema)
