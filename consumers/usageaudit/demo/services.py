"""The simulated organisation, as data: Meridian, which serves its own staff and a few customers.

Most of its uses are what anybody would expect. A few break the code of conduct of its model vendor, some only since
the first of May 2024, and one old service declares nothing about what it does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from usageaudit.demo.traffic import Rhythm, Shape

Facts = Mapping[str, object]
"""Fields of an event below `data`, by dotted path."""

AZURE = "azure.ai.openai"
BEDROCK = "aws.bedrock"


@dataclass(frozen=True, slots=True)
class Use:
    """One way in which a service uses a model; `weight` is its share of the service's requests."""

    weight: float
    model: str
    facts: Facts
    provider: str = AZURE
    operation: str = "chat"
    tokens: Shape | None = "conversation"
    images: int = 0
    audio: bool = False


@dataclass(frozen=True, slots=True)
class Service:
    """A service of the organisation: how much it is used, when, by whom and for what."""

    name: str
    team: str
    events: int
    rhythm: Rhythm
    actors: int
    facts: Facts
    uses: tuple[Use, ...]
    failures: float = 0.01
    instances: int = 2


TEXT: Facts = {"input.modalities": ["text"], "output.modalities": ["text"]}
PICTURE: Facts = {"input.modalities": ["text", "image"], "output.modalities": ["text"]}
VIDEO: Facts = {"input.modalities": ["video"], "output.modalities": ["text"]}


def _staff(organization: str, sector: str = "technology", jurisdiction: str = "FR") -> Facts:
    return {"actor.organization": organization, "actor.sector": sector, "actor.jurisdiction": jurisdiction}


def _for(organization: str, sector: str, jurisdiction: str) -> Facts:
    prefix = "actor.on_behalf_of"
    return {
        f"{prefix}.organization": organization,
        f"{prefix}.sector": sector,
        f"{prefix}.jurisdiction": jurisdiction,
    }


def _capture(device: str, setting: str, timing: str, place: str) -> Facts:
    return {
        "input.capture.device": device,
        "input.capture.setting": setting,
        "input.capture.timing": timing,
        "input.capture.place": place,
    }


def _use_case(name: str, *more: Facts) -> Facts:
    facts: dict[str, object] = {"purpose.use_case": name}
    for one in more:
        facts |= one
    return facts


def _signal(category: str, score: float) -> Facts:
    return {"content.signals": [{"category": category, "score": score, "detector": "meridian-screen", "version": "3"}]}


_GENDARMERIE = _for("gendarmerie-fr", "law_enforcement", "FR")
_SHERIFF = _for("county-sheriff", "law_enforcement", "US-OH")
_CITY_POLICE = _for("city-police-de", "law_enforcement", "DE")
_FACES: Facts = {"output.inferred_attributes": ["identity"]}
_BODY_CAMERA = _capture("body_worn_camera", "in_the_wild", "real_time", "public_space")
_STREET_CAMERA = _capture("fixed_camera", "in_the_wild", "real_time", "public_space")
_SHOP_CAMERA = _capture("fixed_camera", "in_the_wild", "post_event", "shop")
_LOOKS: Facts = {"output.inferred_attributes": ["gender", "age"]}
_QUIET: Facts = {"output.inferred_attributes": []}

SERVICES: tuple[Service, ...] = (
    Service(
        "support-chat",
        "customer-care",
        9_000,
        "service",
        2_400,
        _staff("customer-care"),
        (
            Use(80, "gpt-35-turbo", _use_case("chat", TEXT, _QUIET, _signal("deception", 0.02))),
            Use(20, "gpt-4-turbo", _use_case("summarization", TEXT, _QUIET)),
            Use(0.05, "gpt-4-turbo", _use_case("chat", TEXT, _QUIET, _signal("deception", 0.91))),
        ),
        failures=0.012,
        instances=4,
    ),
    Service(
        "code-assist",
        "developer-tools",
        8_000,
        "office",
        310,
        _staff("engineering"),
        (
            Use(90, "gpt-4-turbo", _use_case("code_generation", TEXT, _QUIET), tokens="code"),
            Use(10, "gpt-4", _use_case("code_generation", TEXT, _QUIET), tokens="code"),
        ),
        failures=0.02,
        instances=3,
    ),
    Service(
        "document-search",
        "knowledge",
        2_600,
        "office",
        640,
        _staff("knowledge"),
        (
            Use(60, "text-embedding-3-large", _use_case("search", TEXT), operation="embeddings"),
            Use(40, "gpt-35-turbo", _use_case("summarization", TEXT, _QUIET)),
        ),
    ),
    Service(
        "reindex",
        "knowledge",
        3_000,
        "night",
        1,
        _staff("knowledge"),
        (Use(1, "text-embedding-3-large", _use_case("search", TEXT), operation="embeddings"),),
        failures=0.03,
        instances=1,
    ),
    Service(
        "invoice-reader",
        "finance-systems",
        2_800,
        "night",
        1,
        _staff("finance", "finance"),
        (
            Use(85, "anthropic.claude-3-haiku", _use_case("classification", PICTURE, _QUIET), BEDROCK, images=1),
            Use(15, "anthropic.claude-3-sonnet", _use_case("classification", PICTURE, _QUIET), BEDROCK, images=2),
        ),
        instances=1,
    ),
    Service(
        "meeting-notes",
        "workplace",
        1_300,
        "office",
        480,
        _staff("workplace"),
        (
            Use(50, "whisper-1", _use_case("transcription"), operation="transcription", tokens=None, audio=True),
            Use(50, "gpt-4-turbo", _use_case("summarization", TEXT, _QUIET)),
        ),
    ),
    Service(
        "translation-desk",
        "workplace",
        1_500,
        "office",
        260,
        _staff("legal", "legal"),
        (Use(1, "gpt-35-turbo", _use_case("translation", TEXT, _QUIET)),),
    ),
    Service(
        "campaign-studio",
        "marketing",
        420,
        "office",
        24,
        _staff("marketing"),
        (
            Use(70, "dall-e-3", _use_case("image_generation"), operation="image_generation", tokens=None, images=1),
            Use(30, "gpt-4-turbo", _use_case("chat", TEXT, _QUIET)),
        ),
        failures=0.05,
    ),
    Service(
        "applicant-desk",
        "people",
        320,
        "office",
        9,
        {**_staff("people"), "oversight.human_review": True, "input.data_classification": "restricted"},
        (
            Use(96, "gpt-4-turbo", _use_case("candidate_screening", TEXT, _QUIET)),
            Use(4, "gpt-4-turbo", _use_case("social_scoring", TEXT, _QUIET)),
        ),
    ),
    Service(
        "companion-pilot",
        "new-products",
        360,
        "evening",
        55,
        _staff("new-products"),
        (
            Use(90, "gpt-4-turbo", _use_case("companionship", TEXT, _QUIET, _signal("romantic_persona", 0.22))),
            Use(10, "gpt-4-turbo", _use_case("companionship", TEXT, _QUIET, _signal("romantic_persona", 0.87))),
        ),
    ),
    Service(
        "video-desk",
        "public-safety",
        640,
        "service",
        14,
        _staff("public-safety"),
        (
            Use(22, "gpt-4-turbo", _use_case("facial_recognition", VIDEO, _FACES, _BODY_CAMERA, _GENDARMERIE)),
            Use(14, "gpt-4-turbo", _use_case("facial_recognition", VIDEO, _FACES, _SHOP_CAMERA, _SHERIFF)),
            Use(14, "gpt-4-turbo", _use_case("facial_recognition", VIDEO, _FACES, _STREET_CAMERA, _CITY_POLICE)),
            Use(
                9,
                "gpt-4-turbo",
                _use_case("image_analysis", VIDEO, _LOOKS, _SHOP_CAMERA, _for("shopping-centres", "retail", "FR")),
            ),
            Use(41, "gpt-4-turbo", _use_case("image_analysis", VIDEO, _QUIET, _SHOP_CAMERA)),
        ),
        failures=0.03,
    ),
    Service(
        "legacy-crm",
        "sales-systems",
        900,
        "office",
        120,
        {"actor.organization": "sales"},
        (Use(1, "gpt-35-turbo", {}),),
        instances=1,
    ),
)
"""Every service of the organisation: about 31,000 requests in the week."""
