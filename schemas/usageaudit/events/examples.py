"""Example events, made from the definition: the least that is an event, and one with every field."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from usageaudit.events.fields import EVENT_FIELDS, EventField
from usageaudit.events.model import EVENT_TYPE

_TIME = "2024-05-01T09:30:00.125Z"

_VALUES: dict[str, Any] = {
    "operation": "chat",
    "model.provider": "azure.ai.openai",
    "model.name": "gpt-4-turbo",
    "model.response_name": "gpt-4-turbo-2024-04-09",
    "model.deployment": "claims-eu",
    "model.region": "swedencentral",
    "actor.id": "u-7f3a91",
    "actor.type": "user",
    "actor.organization": "claims-department",
    "actor.sector": "finance",
    "actor.jurisdiction": "FR",
    "actor.on_behalf_of.organization": "example-insurance",
    "actor.on_behalf_of.sector": "finance",
    "actor.on_behalf_of.jurisdiction": "FR",
    "application.name": "claims-triage",
    "application.version": "2.4.1",
    "application.environment": "production",
    "application.team": "claims-tools",
    "purpose.use_case": "image_analysis",
    "purpose.reference": "UC-0042",
    "input.modalities": ["text", "image"],
    "input.data_classification": "confidential",
    "input.capture.device": "phone",
    "input.capture.setting": "controlled",
    "input.capture.timing": "post_event",
    "input.capture.place": "private",
    "output.modalities": ["text"],
    "output.inferred_attributes": [],
    "usage.input_tokens": 1842,
    "usage.output_tokens": 211,
    "usage.cached_input_tokens": 1024,
    "usage.reasoning_tokens": 0,
    "usage.images": 2,
    "usage.audio_seconds": 0.0,
    "cost.amount": "0.02475",
    "cost.currency": "USD",
    "cost.source": "local",
    "outcome.status": "ok",
    "outcome.error_type": None,
    "outcome.finish_reasons": ["stop"],
    "outcome.latency_ms": 2350.5,
    "outcome.guardrails": [{"name": "content-filter", "action": "pass", "categories": []}],
    "content.prompt_hmac": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "content.prompt_chars": 5120,
    "content.response_hmac": "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752",
    "content.response_chars": 804,
    "content.signals": [{"category": "deception", "score": 0.02, "detector": "example-detector", "version": "1.3.0"}],
    "oversight.human_review": True,
    "oversight.reviewer": "u-11c2d8",
    "oversight.consent": "given",
    "conversation_id": "conv-4b1d",
    "agent.id": "agent-17",
    "agent.name": "claims-assistant",
    "tools": ["policy_lookup"],
    "trace.trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    "trace.span_id": "00f067aa0ba902b7",
    "capture": "full",
    "publisher.instance": "0190f1c2-6a6b-7c1e-8f7e-2d7c3f1f9a10",
    "publisher.sequence": 1,
    "publisher.version": "0.1.0",
    "labels": {"cost_center": "cc-104"},
}


def example_events() -> dict[str, dict[str, Any]]:
    """Return the examples by name, as structured CloudEvents: `minimal` with what is required, and `full`."""
    return {
        "minimal": _event("0190f1c2-7d2a-7b5c-9c3e-6a1f0c9b2e11", [field for field in EVENT_FIELDS if field.required]),
        "full": _event("0190f1c2-7d2a-7b5c-9c3e-6a1f0c9b2e12", EVENT_FIELDS),
    }


def _event(event_id: str, fields: list[EventField] | tuple[EventField, ...]) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for field in fields:
        parent = data
        for step in field.path[:-1]:
            parent = parent.setdefault(step, {})
        parent[field.path[-1]] = deepcopy(_VALUES[field.name])
    return {
        "specversion": "1.0",
        "id": event_id,
        "source": "//services/claims-triage",
        "type": EVENT_TYPE,
        "time": _TIME,
        "datacontenttype": "application/json",
        "data": data,
    }
