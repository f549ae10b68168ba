"""The body of a webhook: its fields, what they mean, and its JSON Schema."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import orjson
from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

from usageaudit.alerts.model import Status  # noqa: TC001, pydantic reads it
from usageaudit.alerts.targets.text import evidence_text, fit
from usageaudit.verdicts import Severity  # noqa: TC001, pydantic reads it

if TYPE_CHECKING:
    from usageaudit.alerts.model import Alert, Notification

TYPE = "io.usageaudit.alert"
"""What the types of bodies begin with; the occasion follows."""
SCHEMA_ID = "urn:usageaudit:schema:webhook"
MOST_EVIDENCE = 65_536
"""So that a body stays below the million bytes that receivers and brokers take by default."""


class WebhookAlert(TypedDict):
    """An alert. Texts are empty where there is nothing to say; nothing in it is content of a use."""

    alert_id: Annotated[str, Field(description="Id of the alert; its notifications share it.")]
    status: Annotated[Status, Field(description="Whether it goes on.")]
    kind: Annotated[str, Field(description="`event`, or the kind of the finding.")]
    policy_id: Annotated[str, Field(description="The policy that was violated.")]
    policy_version: Annotated[int, Field(description="Its version.")]
    severity: Annotated[Severity, Field(description="How bad the policy says it is.")]
    message: Annotated[str, Field(description="What the policy says of it.")]
    violation_id: Annotated[str, Field(description="Id of the first violation, or of the finding, in the ledger.")]
    first_time: Annotated[str, Field(description="When the first violation happened, RFC 3339.")]
    group: Annotated[dict[str, str], Field(description="What the gathered violations share, by field.")]
    count: Annotated[int, Field(description="How many violations were gathered when this was written.")]
    application: Annotated[str, Field(description="The application that used the model.")]
    team: Annotated[str, Field(description="Its team.")]
    organization: Annotated[str, Field(description="The organisation that used the model.")]
    model: Annotated[str, Field(description="The model that was used.")]
    event_source: Annotated[str, Field(description="CloudEvents source of the first event.")]
    event_id: Annotated[str, Field(description="CloudEvents id of the first event.")]
    evidence: Annotated[dict[str, Any], Field(description="The fields of the event that the policy names as evidence.")]
    bundle: Annotated[str, Field(description="Hash of the policy bundle that judged.")]
    acknowledge_url: Annotated[str, Field(description="Where a person acknowledges it.")]


class WebhookBody(TypedDict):
    """The body of a webhook of usageaudit; new fields may come, so readers let pass what they don't know."""

    type: Annotated[
        Literal[
            "io.usageaudit.alert.opened",
            "io.usageaudit.alert.escalated",
            "io.usageaudit.alert.resolved",
            "io.usageaudit.alert.test",
        ],
        Field(description="The occasion."),
    ]
    timestamp: Annotated[
        str, Field(description="`first_time` where the alert was opened, else when this was written; RFC 3339.")
    ]
    data: Annotated[WebhookAlert, Field(description="The alert.")]


def payload(notification: Notification, now: float) -> WebhookBody:
    """Return the body of a webhook; `now` is in seconds since 1970."""
    occurred = notification.alert.first_time if notification.occasion == "opened" else ""
    return {
        "type": f"{TYPE}.{notification.occasion}",  # type: ignore[typeddict-item]
        "timestamp": occurred or _text_of(now),
        "data": _data(notification.alert),
    }


def webhook_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a body."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        **TypeAdapter(WebhookBody).json_schema(mode="serialization"),
    }


def _text_of(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _data(alert: Alert) -> WebhookAlert:
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
        "evidence": evidence_of(evidence_text(alert)),
        "bundle": alert.bundle,
        "acknowledge_url": alert.acknowledge_url,
    }


def evidence_of(text: str) -> dict[str, Any]:
    """Return the evidence; what can't be read, is too large or too deep is text in a field `text`."""
    if len(text) <= MOST_EVIDENCE:
        with suppress(orjson.JSONDecodeError, orjson.JSONEncodeError):
            found = orjson.loads(text or "{}")
            orjson.dumps(found)  # which bears less depth than reading does
            if isinstance(found, dict):
                return found
    return {"text": fit(text, MOST_EVIDENCE)}
