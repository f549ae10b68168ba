"""A month of two organisations in a dozen ledger rows: small enough to work every figure out by hand."""

from __future__ import annotations

import json

from tests.ledger_rows import Row, accepted, duplicate, rejected, verdict

FACE, HINT, ART5 = "azure/face", "hygiene/purpose", "eu-ai-act/purpose"
CHAT: Row = {
    "application_team": "support",
    "purpose_use_case": "chat",
    "actor_organization": "Acme",
    "outcome_status": "ok",
    "cost_currency": "USD",
    "capture": "full",
    "publisher_instance": "p1",
    "bundle": "b1",
}
SCAN: Row = {
    "event_source": "svc-b",
    "application_name": "scanner",
    "application_team": "vision",
    "purpose_use_case": "image_analysis",
    "model_name": "gpt-4o-vision",
    "actor_id": "u3",
    "actor_organization": "City Police",
    "actor_sector": "law_enforcement",
    "actor_jurisdiction": "US-CA",
    "outcome_status": "ok",
    "bundle": "b2",
}
STRUCTURED = {
    "specversion": "1.0",
    "extra": "an attribute of the envelope is no field of the event",
    "data": {
        "operation": "chat",
        "model": {"provider": "anthropic", "name": "claude", "colour": "red"},
        "labels": {"anything": "goes"},
        "mood": {"deep": 1},
        "outcome": {"guardrails": [{"name": "pii", "weight": 3}, "not an object"]},
    },
}
WORLD = [
    accepted(
        "e1",
        "2026-03-02 09:10:00",
        CHAT,
        record_time="2026-03-02 09:10:02",
        publisher_sequence=1,
        conversation_id="c1",
        tools=["search"],
        usage_input_tokens=100,
        usage_output_tokens=20,
        usage_cached_input_tokens=40,
        cost_amount="0.10",
        outcome_latency_ms=100,
        oversight_human_review=True,
    ),
    accepted(
        "e2",
        "2026-03-02 09:50:00",
        CHAT,
        publisher_sequence=2,
        conversation_id="c1",
        usage_input_tokens=300,
        usage_output_tokens=50,
        cost_amount="0.20",
        outcome_latency_ms=300,
        oversight_human_review=False,
    ),
    accepted(
        "e3",
        "2026-03-09 10:00:00",
        CHAT,
        actor_id="u2",
        publisher_sequence=5,
        cost_amount="0.01",
        outcome_status="error",
        outcome_error_type="rate_limit",
    ),
    accepted(
        "e4",
        "2026-04-01 00:00:00",
        SCAN,
        verdict("violated", (FACE, 1, "critical", "enforce", "a face", '{"a": 1}', [])),
        cost_amount="1.5",
        cost_currency="EUR",
        capture="sampled",
        outcome_guardrails_name=["pii", "toxicity"],
        outcome_guardrails_action=["block", "pass"],
        outcome_guardrails_categories=[["name", "email"], []],
        outcome_guardrails_categories_present=[True, False],
    ),
    accepted(
        "e5",
        "2026-04-01 23:59:59.999999",
        SCAN,
        verdict("exempted", (FACE, 1, "critical", "enforce", "a face", "EX-17")),
        record_time="2026-04-02 00:00:01",
        cost_amount="0.5",
        cost_currency="EUR",
    ),
    accepted(
        "e6",
        "2026-04-02 12:00:00",
        SCAN,
        verdict(
            "violated",
            (FACE, 1, "critical", "enforce", "a face again", "{}", []),
            (HINT, 2, "low", "shadow", "no purpose", "{}", ["purpose.use_case"]),
        ),
    ),
    accepted(
        "e7",
        "2026-04-03 08:00:00",
        SCAN,
        verdict("indeterminate", (FACE, 1, ["actor.sector"]), (ART5, 1, ["actor.sector", "purpose.use_case"])),
        purpose_use_case=None,
        actor_sector=None,
        record_time="2026-04-03 07:00:00",
    ),
    accepted(
        "e8",
        "2026-04-03 09:00:00",
        SCAN,
        verdict("indeterminate", (FACE, 1, ["input.capture.device"])),
        content_mode="binary",
        unknown_fields=1,
        raw=json.dumps({"mood": "blue", "model": {}}),
    ),
    accepted(
        "e1",
        "2026-04-04 00:00:00",
        application_name="research",
        model_provider="anthropic",
        model_name="claude",
        model_response_name="claude-2",
        capture="imported",
        bundle="b2",
        unknown_fields=3,
        raw=json.dumps(STRUCTURED),
    ),
    duplicate("e1", "2026-03-02 09:10:00"),
    rejected("2026-04-02 10:00:00", "data.model.name: is required", error_path="data.model.name"),
    rejected("2026-04-02 11:00:00", "data.model.name: is required", error_path="data.model.name"),
    rejected("2026-04-03 10:00:00", "not JSON", error_path=""),
    duplicate("e2", "2026-03-02 09:50:00", partition=1, offset=0),
    duplicate("e2", "2026-03-02 09:50:00", partition=1, offset=2),
    duplicate("e2", "2026-03-02 09:50:00", partition=1, offset=2),
]
BURST = {
    "finding_id": "b" * 32,
    "kind": "windowed",
    "effect": "violation",
    "policy_id": "hygiene/burst",
    "policy_version": 1,
    "severity": "medium",
    "window_start": "2026-03-02 09:30:00",
    "window_end": "2026-03-02 10:30:00",
    "group_key": "chatbot",
    "message": "many calls",
    "created": "2026-03-02 10:31:00",
}
GAP = {
    **BURST,
    "finding_id": "a" * 32,
    "kind": "offset_gap",
    "effect": "notice",
    "policy_id": "",
    "created": "2026-03-03 00:00:00",
}
BUNDLE = {"hash": "b1", "name": "pack", "loaded_by": "ann", "loaded_at": "2026-03-01 00:00:00", "git_commit": "abc"}
FIRST_READING = {
    "policy_id": FACE, "policy_version": 1, "digest": "d1", "approved_by": "ann", "reason": "first reading",
    "approved_at": "2026-02-01 00:00:00",
}  # fmt: skip
CHANGED = {
    "policy_id": FACE, "policy_version": 2, "digest": "d2", "approved_by": "bob", "reason": "as changed",
    "approved_at": "2026-03-31 12:00:00",
}  # fmt: skip
APPROVALS = [
    {"bundle": "b1", **FIRST_READING, "current": 1, "recorded_at": "2026-03-01 00:00:00"},
    {"bundle": "b3", **FIRST_READING, "current": 0, "recorded_at": "2026-04-05 00:00:00"},
    {"bundle": "b3", **CHANGED, "current": 1, "recorded_at": "2026-04-05 00:00:00"},
]
"""A policy that was approved in one bundle, and again, as it was changed, in another, which has judged nothing yet."""
