"""The usage event: one use of an AI model by one request, whether it succeeded, failed or was blocked.

This is the one definition. Decoding, validation, JSON Schema, the ledger's columns, the names that policies read and
the documentation follow from it. Names are those of OpenTelemetry's GenAI conventions where they have one. Everything
that is not required may be absent or null, which rules see as unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from typing_extensions import Doc

from usageaudit.events.marks import IDENTIFIER, PERSONAL, Amount, Count, Measure, Name, Score

EVENT_TYPE = "io.usageaudit.model_usage.v1"
"""The CloudEvents `type` of a usage event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The model that was asked for and the one that answered."""

    provider: Annotated[Name, Doc("who serves the model: azure.ai.openai, openai … (gen_ai.provider.name)")]
    name: Annotated[Name, Doc("the model that was requested (gen_ai.request.model)")]
    response_name: Annotated[str | None, Doc("the model that answered (gen_ai.response.model)")] = None
    deployment: Annotated[str | None, Doc("name of the deployment at the provider")] = None
    region: Annotated[str | None, Doc("region in which the model ran")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OnBehalfOf:
    """The party that the actor used the model for."""

    organization: Annotated[str | None, Doc("organisation that the use was for")] = None
    sector: Annotated[str | None, Doc("its sector, as `actor.sector`")] = None
    jurisdiction: Annotated[str | None, Doc("its jurisdiction, as `actor.jurisdiction`")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who used the model."""

    id: Annotated[Name, Doc("pseudonymous id of who used the model; never an e-mail address or a name"), PERSONAL]
    type: Annotated[str | None, Doc("user, service or agent")] = None
    organization: Annotated[str | None, Doc("organisation or department that the actor belongs to")] = None
    sector: Annotated[str | None, Doc("law_enforcement, healthcare, finance, education, government, retail …")] = None
    jurisdiction: Annotated[str | None, Doc("ISO 3166 code of a country or a part of it: US, US-CA, FR")] = None
    on_behalf_of: Annotated[OnBehalfOf | None, Doc("whom the use was for; absent: the actor itself")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """The service that called the model."""

    name: Annotated[Name, Doc("name of the application, as in the registry of applications")]
    version: Annotated[str | None, Doc("its version")] = None
    environment: Annotated[str | None, Doc("production, staging, red-team …")] = None
    team: Annotated[str | None, Doc("the team that owns it")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Purpose:
    """What the use was declared to be for."""

    use_case: Annotated[str | None, Doc("declared use case, a word of the vocabulary `lists.use_cases`")] = None
    reference: Annotated[str | None, Doc("id in the register of approved uses"), IDENTIFIER] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """How pictures, video or sound that went in were taken."""

    device: Annotated[str | None, Doc("body_worn_camera, dash_camera, drone, phone, fixed_camera …")] = None
    setting: Annotated[str | None, Doc("in_the_wild or controlled")] = None
    timing: Annotated[str | None, Doc("real_time or post_event")] = None
    place: Annotated[str | None, Doc("public_space, workplace, school, private …")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """What went into the model."""

    modalities: Annotated[list[str] | None, Doc("text, image, audio, video")] = None
    data_classification: Annotated[str | None, Doc("public, internal, confidential or restricted")] = None
    capture: Annotated[Capture | None, Doc("how the input was captured")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What came out of the model."""

    modalities: Annotated[list[str] | None, Doc("text, image, audio, video")] = None
    inferred_attributes: Annotated[
        list[str] | None, Doc("what was inferred about people: race, gender, age, emotion, identity …; [] for nothing")
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """How much was used."""

    input_tokens: Annotated[Count | None, Doc("tokens in, cached ones included (gen_ai.usage.input_tokens)")] = None
    output_tokens: Annotated[Count | None, Doc("tokens out, reasoning included (gen_ai.usage.output_tokens)")] = None
    cached_input_tokens: Annotated[Count | None, Doc("the part of input_tokens that came from a cache")] = None
    reasoning_tokens: Annotated[Count | None, Doc("the part of output_tokens spent on reasoning")] = None
    images: Annotated[Count | None, Doc("images in or out")] = None
    audio_seconds: Annotated[Measure | None, Doc("seconds of audio in or out")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What the use cost."""

    amount: Annotated[Amount | None, Doc("decimal number as text, such as '0.0125'")] = None
    currency: Annotated[str | None, Doc("ISO 4217 code, such as USD")] = None
    source: Annotated[str | None, Doc("provider (as billed) or local (computed from a price list)")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Guardrail:
    """What an inline guardrail did."""

    name: Annotated[str | None, Doc("name of the guardrail")] = None
    action: Annotated[str | None, Doc("pass, flag, mask, block …")] = None
    categories: Annotated[list[str] | None, Doc("what it found")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How the request ended."""

    status: Annotated[str | None, Doc("ok, error, blocked or filtered")] = None
    error_type: Annotated[str | None, Doc("kind of error: rate_limit, timeout … (error.type)")] = None
    finish_reasons: Annotated[list[str] | None, Doc("why the model stopped (gen_ai.response.finish_reasons)")] = None
    latency_ms: Annotated[Measure | None, Doc("milliseconds from request to the end of the answer")] = None
    guardrails: Annotated[list[Guardrail] | None, Doc("what inline guardrails did")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """What a detector on the producer's side said about the content."""

    category: Annotated[Name, Doc("what was detected: romantic_persona, deception, social_scoring …")]
    score: Annotated[Score, Doc("how sure the detector is, 0 to 1")]
    detector: Annotated[str | None, Doc("name of the detector")] = None
    version: Annotated[str | None, Doc("version of the detector")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """Facts about the content; never the content itself."""

    prompt_hmac: Annotated[str | None, Doc("HMAC-SHA-256 of the prompt with the organisation's key"), IDENTIFIER] = None
    prompt_chars: Annotated[Count | None, Doc("length of the prompt in characters")] = None
    response_hmac: Annotated[str | None, Doc("HMAC-SHA-256 of the response with that key"), IDENTIFIER] = None
    response_chars: Annotated[Count | None, Doc("length of the response in characters")] = None
    signals: Annotated[list[Signal] | None, Doc("what detectors said; absent: no detector ran")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Oversight:
    """Human oversight of the use."""

    human_review: Annotated[bool | None, Doc("whether a person reviews the result before it takes effect")] = None
    reviewer: Annotated[str | None, Doc("pseudonymous id of that person"), PERSONAL] = None
    consent: Annotated[str | None, Doc("given, refused, not_required …")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """The agent that made the request."""

    id: Annotated[str | None, Doc("id of the agent (gen_ai.agent.id)"), IDENTIFIER] = None
    name: Annotated[str | None, Doc("name of the agent (gen_ai.agent.name)")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """The W3C trace that the request was part of."""

    trace_id: Annotated[str | None, Doc("32 hex digits"), IDENTIFIER] = None
    span_id: Annotated[str | None, Doc("16 hex digits"), IDENTIFIER] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PublisherStamp:
    """Which publisher sent the event and the how-manieth it was, so that a loss before the stream shows as a gap."""

    instance: Annotated[str | None, Doc("id that the publisher drew when it started"), IDENTIFIER] = None
    sequence: Annotated[Count | None, Doc("number of the event within that instance, from 1")] = None
    version: Annotated[str | None, Doc("version of the publisher library")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageEvent:
    """One use of a model: the `data` of a CloudEvent of type `io.usageaudit.model_usage.v1`."""

    operation: Annotated[Name, Doc("chat, embeddings, image_generation, transcription … (gen_ai.operation.name)")]
    model: Annotated[Model, Doc("the model")]
    actor: Annotated[Actor, Doc("who used it")]
    application: Annotated[Application, Doc("the service that called it")]
    purpose: Annotated[Purpose | None, Doc("what for")] = None
    input: Annotated[Input | None, Doc("what went in")] = None
    output: Annotated[Output | None, Doc("what came out")] = None
    usage: Annotated[Usage | None, Doc("how much")] = None
    cost: Annotated[Cost | None, Doc("at what price")] = None
    outcome: Annotated[Outcome | None, Doc("how it ended")] = None
    content: Annotated[Content | None, Doc("facts about the content, never the content")] = None
    oversight: Annotated[Oversight | None, Doc("human oversight")] = None
    conversation_id: Annotated[str | None, Doc("id of the conversation (gen_ai.conversation.id)"), PERSONAL] = None
    agent: Annotated[Agent | None, Doc("the agent that made the request")] = None
    tools: Annotated[list[str] | None, Doc("names of the tools that the model called")] = None
    trace: Annotated[Trace | None, Doc("the trace it belongs to")] = None
    capture: Annotated[str | None, Doc("full, sampled or imported: a sampled source is no record of truth")] = None
    publisher: Annotated[PublisherStamp | None, Doc("set by the publisher")] = None
    labels: Annotated[dict[str, str] | None, Doc("what an organisation adds, as strings")] = None
