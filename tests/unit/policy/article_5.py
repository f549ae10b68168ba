"""The practices that Article 5(1) of the EU AI Act prohibits, written down a second time, from the Act itself.

Every clause takes exceptions only where they are claimed, and the registry as a third party beside those of the event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.unit.policy.clauses import DECLARED, Clause, acts_for_another

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.unit.policy.clauses import Facts

_STATES = "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK"
MEMBER_STATES = frozenset(_STATES[at : at + 2] for at in range(0, len(_STATES), 3))
REGISTRY: Mapping[str, dict[str, str]] = {
    "lab-it": {"owner": "o", "jurisdiction": "IT-25"},
    "desk-us": {"owner": "o", "jurisdiction": "US-NY"},
    "watch": {"owner": "o", "sector": "law_enforcement"},
}
"""What the registry of the tests says of applications; others are not registered."""

_PLACES = ["FR", "US-CA"]
_SECTORS = ["law_enforcement", "retail"]
_DOMAIN: Mapping[str, Sequence[Any]] = {
    "actor.jurisdiction": _PLACES,
    "actor.on_behalf_of.jurisdiction": _PLACES,
    "actor.sector": _SECTORS,
    "actor.on_behalf_of.sector": _SECTORS,
    "input.modalities": [["text"], ["text", "audio"]],
    "input.capture.place": ["workplace", "public_space"],
    "input.capture.timing": ["real_time", "post_event"],
    "output.inferred_attributes": [[], ["fatigue", "shame"], ["age", "race"]],
}

_INFERRED = "output.inferred_attributes"
_LOOKS_AT_PEOPLE = {
    *("biometric_categorisation", "candidate_screening", "emotion_recognition"),
    *("face_detection", "facial_recognition", "image_analysis"),
}
_EMOTIONS = {
    *("emotion", "happiness", "sadness", "anger", "surprise", "disgust", "embarrassment"),
    *("excitement", "shame", "contempt", "satisfaction", "amusement"),
}
_SENSITIVE = {
    *("race", "ethnicity", "political_opinion", "trade_union_membership", "religion", "religious_belief"),
    *("philosophical_belief", "sex_life", "sexual_orientation"),
}


def in_the_union(jurisdiction: str) -> bool:
    """Tell whether a country, a part of one, or the Union itself is written there."""
    return jurisdiction.partition("-")[0] in {*MEMBER_STATES, "EU", "EL"}


def _parties(facts: Facts, what: str) -> list[str]:
    """Return what the actor, the party that it acts for and the registry say of themselves."""
    prefixes = ["actor.", *(["actor.on_behalf_of."] if acts_for_another(facts) else [])]
    registered = REGISTRY.get(facts.get("application.name", ""), {}).get(what)
    return [*(facts[prefix + what] for prefix in prefixes), *([registered] if registered else [])]


def _reached(facts: Facts) -> bool:
    return any(map(in_the_union, _parties(facts, "jurisdiction")))


def _claims(facts: Facts, *exceptions: str) -> bool:
    return facts.get("labels.eu_ai_act_exception") in exceptions


def _detected(facts: Facts, *categories: str) -> bool:
    return any(one["category"] in categories and one["score"] >= 0.8 for one in facts.get("content.signals") or [])


def _inferred(facts: Facts) -> set[str]:
    """Return what was inferred; a purpose that does not look at people, and says nothing of it, infers nothing."""
    open_ = _INFERRED in facts[DECLARED] or facts["purpose.use_case"] in _LOOKS_AT_PEOPLE
    return set(facts[_INFERRED]) if open_ else set()


def _biometric(facts: Facts) -> bool:
    captured = any(name.startswith("input.capture.") for name in facts[DECLARED])
    if "input.modalities" not in facts[DECLARED] and captured:
        return True
    return not {"image", "audio", "video"}.isdisjoint(facts["input.modalities"])


def _emotion(facts: Facts) -> bool:
    use, place = facts["purpose.use_case"], facts["input.capture.place"]
    infers = use == "emotion_recognition" or not _EMOTIONS.isdisjoint(_inferred(facts))
    at_work = use == "candidate_screening" or place in ("workplace", "school")
    return infers and at_work and _biometric(facts) and not _claims(facts, "medical", "safety")


def _categorisation(facts: Facts) -> bool:
    if _claims(facts, "dataset_labelling"):
        return False
    declared = {name: value for name, value in facts.items() if name != "application.name"}
    police = "law_enforcement" in _parties(declared, "sector")
    return not police and _biometric(facts) and not _SENSITIVE.isdisjoint(_inferred(facts))


def _identification(facts: Facts) -> bool:
    if facts["purpose.use_case"] != "facial_recognition" or facts["input.capture.timing"] != "real_time":
        return False
    if facts["input.capture.place"] not in ("public_space", "stadium"):
        return False
    if facts.get("input.capture.setting") == "controlled" or "law_enforcement" not in _parties(facts, "sector"):
        return False
    claimed = _claims(facts, "victim_search", "imminent_threat", "criminal_suspect")
    return not (claimed and "purpose.reference" in facts)


_PARTIES = ("actor.jurisdiction", "actor.on_behalf_of.jurisdiction")
_POLICE = ("actor.sector", "actor.on_behalf_of.sector")


def _clause(violated: Callable[[Facts], bool], uses: Sequence[str], *reads: str) -> Clause:
    """Return a clause; `uses` are enough purposes to stand for all."""
    domain = {**_DOMAIN, "purpose.use_case": [*uses, "chat"]}
    return Clause(("purpose.use_case", *_PARTIES, *reads), violated, _reached, domain)


def _declared_or_detected(use: str, *categories: str, exception: str = "") -> Clause:
    def violated(facts: Facts) -> bool:
        excepted = bool(exception) and _claims(facts, exception)
        return not excepted and (facts["purpose.use_case"] == use or _detected(facts, *categories))

    return _clause(violated, [use])


DETECTED: Mapping[str, tuple[str, str]] = {
    "manipulation": ("deceptive_content", "deception"),
    "exploiting-vulnerability": ("exploitation_of_vulnerability", "exploitation_of_vulnerability"),
    "social-scoring": ("social_scoring", "social_scoring"),
    "predictive-policing": ("predictive_policing", "predictive_policing"),
    "untargeted-face-scraping": ("facial_image_scraping", "facial_image_scraping"),
}
"""The practices that are declared or detected, each with its use case and a category of signals."""
CLAUSES: Mapping[str, Clause] = {
    "manipulation": _declared_or_detected("deceptive_content", "manipulation", "deception", "subliminal_technique"),
    "exploiting-vulnerability": _declared_or_detected(*DETECTED["exploiting-vulnerability"]),
    "social-scoring": _declared_or_detected(*DETECTED["social-scoring"]),
    "predictive-policing": _declared_or_detected(
        *DETECTED["predictive-policing"], exception="supports_human_assessment"
    ),
    "untargeted-face-scraping": _declared_or_detected(*DETECTED["untargeted-face-scraping"]),
    "emotion-inference-at-work-and-school": _clause(
        _emotion,
        ["emotion_recognition", "image_analysis", "candidate_screening"],
        *("input.modalities", "input.capture.place", _INFERRED),
    ),
    "biometric-categorisation": _clause(
        _categorisation, ["biometric_categorisation"], "input.modalities", _INFERRED, *_POLICE
    ),
    "real-time-remote-biometric-identification": _clause(
        _identification, ["facial_recognition"], "input.capture.timing", "input.capture.place", *_POLICE
    ),
}
