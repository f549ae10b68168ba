"""The published form of the stream: an AsyncAPI 3.0 document of the topic of usage events."""

from __future__ import annotations

from typing import Any

from usageaudit.events.examples import example_events
from usageaudit.events.jsonschema import data_definitions, event_schema
from usageaudit.events.model import EVENT_TYPE

_SCHEMAS = "#/components/schemas/"
_DEFAULT_TOPIC = "usage-events"


def asyncapi_document() -> dict[str, Any]:
    """Return the AsyncAPI 3.0 document: the channel, the message in its two content modes, and their schemas."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Usage events",
            "version": "1.0.0",
            "description": "Each record of the topic is one use of an AI model, as a CloudEvent 1.0.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/cloudevents+json",
        "channels": {"usageEvents": _channel()},
        "operations": {
            "publishUsageEvent": _operation("send", "Services and gateways publish each use of a model."),
            "recordUsageEvent": _operation("receive", "The consumer judges and records each event."),
        },
        "components": {"messages": {"structured": _structured(), "binary": _binary()}, "schemas": _schemas()},
    }


def _channel() -> dict[str, Any]:
    return {
        "address": _DEFAULT_TOPIC,
        "description": (
            "Key: the attribute `partitionkey`, else `source`, a NUL and `id` in UTF-8; partitioned by murmur2, as "
            "Kafka's Java client does, so that copies of an event meet in one partition."
        ),
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in ("structured", "binary")},
        "bindings": {"kafka": {"topic": _DEFAULT_TOPIC, "bindingVersion": "0.5.0"}},
    }


def _operation(action: str, summary: str) -> dict[str, Any]:
    messages = [{"$ref": f"#/channels/usageEvents/messages/{name}"} for name in ("structured", "binary")]
    return {
        "action": action,
        "summary": summary,
        "channel": {"$ref": "#/channels/usageEvents"},
        "messages": messages,
    }


def _structured() -> dict[str, Any]:
    return {
        "name": EVENT_TYPE,
        "title": "Usage event, structured mode",
        "contentType": "application/cloudevents+json",
        "payload": {"$ref": f"{_SCHEMAS}UsageEventEnvelope"},
        "bindings": {"kafka": {"key": {"type": "string"}, "bindingVersion": "0.5.0"}},
        "examples": [{"name": name, "payload": event} for name, event in example_events().items()],
    }


def _binary() -> dict[str, Any]:
    attributes = {"ce_specversion": "1.0", "ce_type": EVENT_TYPE}
    strings = {name: {"type": "string"} for name in ("ce_id", "ce_source", "ce_time", "ce_partitionkey")}
    return {
        "name": f"{EVENT_TYPE}.binary",
        "title": "Usage event, binary mode",
        "contentType": "application/json",
        "headers": {
            "type": "object",
            "properties": {**{name: {"const": value} for name, value in attributes.items()}, **strings},
            "required": ["ce_specversion", "ce_type", "ce_id", "ce_source", "ce_time"],
        },
        "payload": {"$ref": f"{_SCHEMAS}UsageEvent"},
    }


def _schemas() -> dict[str, Any]:
    envelope = event_schema()
    for key in ("$schema", "$id", "$defs"):
        del envelope[key]
    data = {"$ref": f"{_SCHEMAS}UsageEvent"}
    envelope["properties"] = {**envelope["properties"], "data": data}
    return {"UsageEventEnvelope": envelope, **data_definitions(_SCHEMAS)}
