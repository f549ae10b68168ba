"""Usage events as a large organisation's services would report them: the same ones for the same seed and number.

About fifty leaves and 1.5 kB each, in the order of their time, spread over one day. Lengths of prompts and answers
follow two services of the Azure LLM inference trace of 2023 by their quantiles (Azure Public Dataset, CC BY 4.0;
Patel et al., Splitwise, ISCA 2024). Everything else is drawn from the tables below.
"""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import orjson

from usageaudit.cloudevents import encode_structured, partition_key
from usageaudit.events.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

T = TypeVar("T")

DAY = "2026-06-15T00:00:00Z"
DAY_MICROS = 86_400_000_000
SEED = 11

# Every twentieth part of the requests has no more tokens than the next figure.
CONVERSATION_INPUT = (
    *(2, 181, 207, 372, 387, 396, 403, 414, 703, 984, 1020),
    *(1045, 1071, 1097, 1130, 1189, 1315, 1876, 2734, 4083, 14050),
)
CONVERSATION_OUTPUT = (
    *(7, 41, 54, 67, 77, 85, 91, 96, 103, 113, 129),
    *(151, 177, 217, 384, 395, 400, 411, 424, 451, 1000),
)
CODE_INPUT = (
    *(3, 75, 147, 232, 386, 578, 770, 938, 1075, 1261, 1469),
    *(1690, 1909, 2164, 2433, 2745, 3192, 3919, 5186, 7302, 7437),
)
CODE_OUTPUT = (6, 6, 7, 7, 8, 9, 9, 10, 11, 12, 13, 14, 16, 18, 20, 24, 29, 39, 55, 90, 1899)

MODELS = {
    "azure.ai.openai": ("gpt-4-turbo", "gpt-4o", "gpt-4o-mini", "dall-e-3", "whisper-1", "gpt-35-turbo"),
    "openai": ("gpt-4o", "o3-mini", "gpt-5"),
    "aws.bedrock": ("claude-3-sonnet", "llama3-70b", "titan-text"),
    "anthropic": ("claude-3-opus", "claude-3-7-sonnet"),
}
PROVIDER_WEIGHTS = (60, 15, 15, 10)
REGIONS = ("eastus", "westeurope", "swedencentral", "us-east-1", "eu-west-3")
OPERATIONS = (*("chat",) * 8, "generate_content", "embeddings", "image_generation", "transcription", "text_completion")
SECTORS = ("law_enforcement", "healthcare", "finance", "retail", "education", "government")
SECTOR_WEIGHTS = (5, 15, 25, 30, 15, 10)
JURISDICTIONS = ("US", "US-CA", "FR", "DE", "GB", "BR", "IN")
SERVICES = ("claims-triage", "chat-support", "bodycam-review", "search", "hr-screen", "companion")
ENVIRONMENTS = ("production", "production", "production", "staging", "red-team")
USE_CASES = {
    "summarization": 20,
    "translation": 10,
    "code_generation": 20,
    "chat": 20,
    "search": 10,
    "classification": 6,
    "ocr": 4,
    "moderation": 3,
    "credit_scoring": 2,
    "companion_chat": 1,
    "facial_recognition": 1,
    "transcription": 3,
}
CLASSIFICATIONS = ("public", "internal", "internal", "confidential", "restricted")
DEVICES = ("body_worn_camera", "dash_camera", "drone", "phone", "fixed_camera")
ATTRIBUTES = ("race", "gender", "age", "emotion", "identity", "height")
TOOLS = ("web_search", "code_interpreter", "sql_query", "file_search", "send_email", "crm_lookup")
SIGNALS = ("romantic_persona", "deception", "social_scoring", "jailbreak", "pii", "self_harm")
ERRORS = ("rate_limit", "timeout", "content_filter", "invalid_request")


class Published(NamedTuple):
    """A stream record as the publisher would write it."""

    key: bytes
    value: bytes


class Organization(NamedTuple):
    """A department with its sector and jurisdiction."""

    organization: str
    sector: str
    jurisdiction: str


def usage_events(count: int, seed: int = SEED) -> Iterator[Published]:
    """Yield so many events, a structured CloudEvent and its key each."""
    services = Services(random.Random(seed))
    first = parse_time(DAY)
    for number in range(count):
        time = first + number * DAY_MICROS // max(count, 1)
        source, data = services.event()
        event_id = services.uuid7()
        value = encode_structured(event_id=event_id, source=source, time=time, data=orjson.dumps(data))
        yield Published(partition_key(source, event_id), value)


class Services:
    """Services of one organisation, each call of which uses a model."""

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        self._organizations = [
            Organization(f"org-{i:03d}", draw.choices(SECTORS, SECTOR_WEIGHTS)[0], self._one_of(JURISDICTIONS))
            for i in range(200)
        ]
        self._applications = [self._application(f"{name}-{i}") for i in range(10) for name in SERVICES]
        self._sequences = dict.fromkeys((self.uuid7() for _ in range(24)), 0)
        self._publishers = tuple(self._sequences)

    def event(self) -> tuple[str, dict[str, Any]]:
        """Return the source and the data of the next event."""
        application = self._one_of(self._applications)
        use_case = self._draw.choices(tuple(USE_CASES), tuple(USE_CASES.values()))[0]
        failed, seeing = self._chance(0.05), self._chance(0.12) or use_case == "facial_recognition"
        operation = self._one_of(OPERATIONS)
        tokens = self._tokens(code=use_case == "code_generation")
        data = {
            "operation": operation,
            "model": self._model(),
            "actor": self._actor(),
            "application": application,
            "purpose": self._purpose(use_case),
            "input": self._input(seeing),
            "output": self._output(operation, seeing),
            "usage": self._usage(*tokens),
            "cost": {"amount": self._amount(*tokens), "currency": "USD", "source": self._one_of(("provider", "local"))},
            "outcome": self._outcome(failed),
            "content": self._content(*tokens),
            "conversation_id": f"conv_{self._hex(96)}",
            "capture": "full",
            "publisher": self._publisher(),
        }
        return f"//services/{application['name']}", data | self._sometimes()

    def uuid7(self) -> str:
        """Return an id in the form of a UUIDv7."""
        digits = self._hex(128)
        return f"{digits[:8]}-{digits[8:12]}-7{digits[13:16]}-8{digits[17:20]}-{digits[20:]}"

    def _one_of(self, values: Sequence[T]) -> T:
        return values[int(self._draw.random() * len(values))]

    def _some_of(self, values: Sequence[str], counts: Sequence[int]) -> list[str]:
        return self._draw.sample(values, self._one_of(counts))

    def _chance(self, share: float) -> bool:
        return self._draw.random() < share

    def _hex(self, bits: int) -> str:
        return f"{self._draw.getrandbits(bits):0{bits // 4}x}"

    def _tokens(self, code: bool) -> tuple[int, int]:
        tables = (CODE_INPUT, CODE_OUTPUT) if code else (CONVERSATION_INPUT, CONVERSATION_OUTPUT)
        return _at(tables[0], self._draw.random()), _at(tables[1], self._draw.random())

    def _application(self, name: str) -> dict[str, str]:
        version = f"{self._draw.randrange(1, 9)}.{self._draw.randrange(20)}.{self._draw.randrange(9)}"
        application = {"name": name, "version": version, "environment": self._one_of(ENVIRONMENTS)}
        return application | ({"team": f"team-{self._draw.randrange(30):02d}"} if self._chance(0.6) else {})

    def _model(self) -> dict[str, str]:
        provider = self._draw.choices(tuple(MODELS), PROVIDER_WEIGHTS)[0]
        name = self._one_of(MODELS[provider])
        deployment = f"dep-{name}-{self._draw.randrange(6):02d}"
        model = {"provider": provider, "name": name, "deployment": deployment, "region": self._one_of(REGIONS)}
        return model | ({"response_name": f"{name}-2026-05-06"} if self._chance(0.7) else {})

    def _actor(self) -> dict[str, Any]:
        organization = self._one_of(self._organizations)
        actor: dict[str, Any] = {
            "id": self._actor_id(),
            "type": self._one_of(("user", "user", "user", "service", "agent")),
            "organization": organization.organization,
        }
        if self._chance(0.95):
            actor["sector"] = organization.sector
        if self._chance(0.8):
            actor["jurisdiction"] = organization.jurisdiction
        if self._chance(0.1):
            actor["on_behalf_of"] = self._one_of(self._organizations)._asdict()
        return actor

    def _actor_id(self) -> str:
        if self._chance(0.002):  # what the hygiene of a code of conduct looks for
            return f"jane.doe{self._draw.randrange(999)}@example.com"
        return "u_" + hashlib.sha256(str(self._draw.randrange(20_000)).encode()).hexdigest()[:20]

    def _purpose(self, use_case: str) -> dict[str, str]:
        purpose = {"use_case": use_case} if self._chance(0.9) else {}
        return purpose | ({"reference": f"UC-{self._draw.randrange(400):04d}"} if self._chance(0.5) else {})

    def _input(self, seeing: bool) -> dict[str, Any]:
        classification = self._one_of(CLASSIFICATIONS)
        if not seeing:
            return {"modalities": ["text"], "data_classification": classification}
        capture = {
            "device": self._one_of(DEVICES),
            "setting": self._one_of(("in_the_wild", "controlled")),
            "timing": self._one_of(("real_time", "post_event")),
            "place": self._one_of(("public_space", "workplace", "private")),
        }
        return {"modalities": ["text", "image"], "data_classification": classification, "capture": capture}

    def _output(self, operation: str, seeing: bool) -> dict[str, Any]:
        output = {"modalities": ["image"] if operation == "image_generation" else ["text"]}
        return output | ({"inferred_attributes": self._some_of(ATTRIBUTES, (0, 0, 1, 2))} if seeing else {})

    def _usage(self, tokens_in: int, tokens_out: int) -> dict[str, int]:
        cached = tokens_in // 2 if self._chance(0.4) else 0
        usage = {"input_tokens": tokens_in, "output_tokens": tokens_out, "cached_input_tokens": cached}
        return usage | ({"reasoning_tokens": 0} if self._chance(0.5) else {})

    def _amount(self, tokens_in: int, tokens_out: int) -> str:
        return f"{tokens_in * 2.5e-6 + tokens_out * 1e-5:.6f}"

    def _outcome(self, failed: bool) -> dict[str, Any]:
        outcome: dict[str, Any] = {"status": "ok", "finish_reasons": ["stop"], "latency_ms": self._latency()}
        if failed:
            status = self._one_of(("error", "blocked", "filtered"))
            outcome |= {"status": status, "error_type": self._one_of(ERRORS), "finish_reasons": ["content_filter"]}
        if self._chance(0.3):
            found = {"action": "block", "categories": ["violence"]} if failed else {"action": "pass", "categories": []}
            outcome["guardrails"] = [{"name": "azure_content_filter", **found}]
        return outcome

    def _latency(self) -> int:
        return self._draw.randrange(200, 30_000)

    def _content(self, tokens_in: int, tokens_out: int) -> dict[str, Any]:
        content: dict[str, Any] = {"prompt_hmac": self._hex(256), "prompt_chars": tokens_in * 4}
        if self._chance(0.7):
            content |= {"response_hmac": self._hex(256), "response_chars": tokens_out * 4}
        if self._chance(0.8):
            content["signals"] = [self._signal(name) for name in self._some_of(SIGNALS, (0, 0, 0, 0, 1, 1, 2))]
        return content

    def _signal(self, category: str) -> dict[str, Any]:
        score = self._draw.randrange(100) / 100
        return {"category": category, "score": score, "detector": "content-signals", "version": "2.3"}

    def _publisher(self) -> dict[str, Any]:
        instance = self._one_of(self._publishers)
        self._sequences[instance] += 1
        return {"instance": instance, "sequence": self._sequences[instance], "version": "0.1.0"}

    def _sometimes(self) -> dict[str, Any]:
        """Return what only some services report."""
        found: dict[str, Any] = {}
        if self._chance(0.5):
            found["oversight"] = {
                "human_review": self._chance(0.2),
                "consent": self._one_of(("given", "not_required")),
            }
        if self._chance(0.3):
            found["agent"] = {
                "id": f"ag-{self._draw.randrange(3000):05d}",
                "name": f"agent-{self._draw.randrange(40):02d}",
            }
        if self._chance(0.7):
            found["tools"] = self._some_of(TOOLS, (0, 0, 1, 2))
        if self._chance(0.6):
            found["trace"] = {"trace_id": self._hex(128), "span_id": self._hex(64)}
        if self._chance(0.7):
            found["labels"] = {
                "cost_center": f"cc-{self._draw.randrange(100):03d}",
                "channel": self._one_of(("web", "api", "mobile")),
            }
        return found


def _at(quantiles: Sequence[int], share: float) -> int:
    """Return the value below which this share lies, in a straight line between the quantiles on both sides."""
    place = share * (len(quantiles) - 1)
    below = int(place)
    low, high = quantiles[below], quantiles[below + 1]
    return low + round((high - low) * (place - below))
