"""The hygiene pack's clauses written down a second time, in plain Python and without the policy language.

Facts are the event's by their names, and beside them `event.source`, `event.id`, `event.time` and `record.time`, the
two in seconds. What an organisation fills in is `ORGANISATION`, which `NOBODY` did not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.unit.policy.clauses import DECLARED, Clause

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.unit.policy.clauses import Facts

VOCABULARY = {
    *("chat", "summarization", "transcription", "translation", "search", "code_generation", "classification"),
    *("moderation", "image_analysis", "image_generation", "facial_recognition", "face_detection"),
    *("emotion_recognition", "candidate_screening", "credit_scoring", "social_scoring", "deceptive_content"),
    *("companionship", "romantic_companionship", "predictive_policing", "biometric_categorisation"),
    *("exploitation_of_vulnerability", "facial_image_scraping"),
}


@dataclass(frozen=True, slots=True)
class Given:
    """What an organisation gives to the pack: its models, and what it registers of its applications."""

    models: tuple[str, ...] = ()
    registry: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def of(self, facts: Facts, name: str) -> Any:
        """Return what is registered of an event's application, None where nothing is."""
        return self.registry.get(facts.get("application.name", ""), {}).get(name)


NOBODY = Given()
ORGANISATION = Given(
    models=("good-model",),
    registry={
        "desk": {"owner": "o", "approved_use_cases": ["chat", "search"], "data_classes": ["public", "internal"]},
        "vault": {"owner": "o", "approved_use_cases": ["transcription"], "data_classes": ["internal", "restricted"]},
        "misfiled": {"owner": "o", "jurisdiction": "Germany"},
    },
)


def _no_code(text: str | None) -> bool:
    if text is None:
        return False
    country, dash, part = text.partition("-")
    letters = len(country) == 2 and country.isascii() and country.isalpha() and country.isupper()
    of_part = 1 <= len(part) <= 3 and part.isascii() and part.isalnum() and part == part.upper()
    return not (letters and (of_part if dash else True))


def _address(text: str) -> bool:
    """Tell whether an e-mail address is somewhere in a text."""
    for word in text.replace("%40", "@").split():
        for before, after in zip(word.split("@"), word.split("@")[1:], strict=False):
            ends = after.rsplit(".", 1)
            if before and len(ends) == 2 and ends[0] and len(ends[1]) > 1 and ends[1][:2].isalpha():
                return True
    return False


def _identifies(facts: Facts) -> bool:
    name = facts["actor.id"]
    digits = [one for one in name if one.isdigit()]
    telephone = name.startswith(("+", "tel:+")) and len(digits) >= 8 and not any(map(str.isupper, name))
    words = name.replace(",", " ").split()
    full_name = len(words) > 1 and words[0].istitle() and words[-1].istitle() and name.replace(" ", "a").isascii()
    machine = facts.get("actor.type") in ("service", "agent")
    return _address(name) or telephone or (full_name and not machine)


def _late_or_early(facts: Facts) -> bool:
    delay = facts["record.time"] - facts["event.time"]
    return bool(delay > 24 * 3600 or delay < -300)


def _restricted(facts: Facts, given: Given) -> bool:
    classes = given.of(facts, "data_classes")
    if "input.data_classification" not in facts[DECLARED] and classes is not None and "restricted" not in classes:
        return False
    return bool(facts["input.data_classification"] == "restricted")


def clauses(given: Given) -> Mapping[str, Clause]:
    """Return the clauses as they hold for who gave that."""

    def registered(name: str) -> Callable[[Facts], bool]:
        return lambda facts: given.of(facts, name) is not None

    def anything(*names: str) -> Callable[[Facts], bool]:
        return lambda facts: any(name in facts for name in names)

    places = ("actor.jurisdiction", "actor.on_behalf_of.jurisdiction")
    return {
        "use-case-missing": Clause((), lambda facts: "purpose.use_case" not in facts),
        "use-case-not-in-vocabulary": Clause((), lambda facts: facts.get("purpose.use_case", "chat") not in VOCABULARY),
        "use-case-not-approved": Clause(
            ("purpose.use_case",),
            lambda facts: facts["purpose.use_case"] not in given.of(facts, "approved_use_cases"),
            registered("approved_use_cases"),
            {"purpose.use_case": ["chat", "transcription"]},
        ),
        "model-not-on-allow-list": Clause(
            (), lambda facts: facts["model.name"] not in given.models, lambda _: bool(given.models)
        ),
        "personal-data-in-actor-id": Clause((), _identifies),
        "personal-data-in-source-or-id": Clause(
            (), lambda facts: _address(facts["event.source"].rpartition("/")[2]) or _address(facts["event.id"])
        ),
        "restricted-data-to-external-model": Clause(
            ("input.data_classification",),
            lambda facts: _restricted(facts, given),
            lambda facts: facts["model.provider"] in ("openai", "azure.ai.openai"),
            {"input.data_classification": ["public", "restricted"]},
        ),
        "jurisdiction-not-a-code": Clause(
            (),
            lambda facts: any(map(_no_code, (*map(facts.get, places), given.of(facts, "jurisdiction")))),
            lambda facts: anything(*places)(facts) or registered("jurisdiction")(facts),
        ),
        "event-time-far-from-record-time": Clause(
            (), _late_or_early, lambda facts: "record.time" in facts and facts.get("capture") != "imported"
        ),
    }
