"""Clauses written down a second time, in plain Python and without the policy language; here the code of conduct's.

A clause is a two-valued function of an event in which everything is known. An event that leaves facts out stands for
all events that fill them in: it violates the clause where all of them do, keeps it where none does, and is undecided
otherwise. It is beyond the clause where none of them is within its reach.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.unit.policy.bundles import data_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

Facts = dict[str, Any]
"""Values of an event's fields by their dotted names; a name that is missing is a fact left out."""

DOMAIN: Mapping[str, Sequence[Any]] = {
    "purpose.use_case": ["facial_recognition", "chat", "deceptive_content", "romantic_companionship", "social_scoring"],
    "actor.sector": ["law_enforcement", "retail"],
    "actor.jurisdiction": ["US", "US-TX", "FR"],
    "actor.on_behalf_of.sector": ["law_enforcement", "retail"],
    "actor.on_behalf_of.jurisdiction": ["US", "US-TX", "FR"],
    "input.capture.device": ["body_worn_camera", "drone", "fixed_camera"],
    "input.capture.timing": ["real_time", "post_event"],
    "input.capture.setting": ["in_the_wild", "controlled"],
    "input.modalities": [[], ["text"], ["image"], ["audio", "video"]],
    "output.inferred_attributes": [[], ["race"], ["emotion", "age_range"], ["age", "emotion"]],
}
MOBILE = ("body_worn_camera", "dash_camera", "drone", "phone", "helmet_camera", "handheld_camera")
SENSITIVE = (
    *("gender", "race", "ethnicity", "age", "religion", "sexual_orientation"),
    *("political_opinion", "disability", "health"),
)


DECLARED = "declared"
"""The key under which facts that were filled in keep the names of those that the event itself declared."""


def _anywhere(_: Facts) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Clause:
    """A clause: the fields that it depends on, and whether it reaches a completely known event, which violates it."""

    reads: tuple[str, ...]
    violated: Callable[[Facts], bool]
    reached: Callable[[Facts], bool] = _anywhere
    domain: Mapping[str, Sequence[Any]] = field(default_factory=lambda: DOMAIN)

    def verdict(self, facts: Facts) -> str:
        """Return the verdict of an event that may leave facts out."""
        wholes = list(self._completed(facts))
        if not any(map(self.reached, wholes)):
            return "not_applicable"
        found = set(map(self._found, wholes))
        return "indeterminate" if len(found) == 2 else "violation" if found == {True} else "ok"

    def deciding(self, facts: Facts) -> set[str]:
        """Return the facts left out that could change the verdict, some others being filled in somehow."""
        return {
            name
            for name in self._open(facts)
            if any(
                len({self._found({**whole, name: value}) for value in self.domain[name]}) == 2
                for whole in self._completed(facts)
            )
        }

    def _found(self, whole: Facts) -> bool:
        return self.reached(whole) and self.violated(whole)

    def _open(self, facts: Facts) -> list[str]:
        """Return the names left out; of a party to act for that is not there nothing is left out."""
        return [
            name
            for name in self.reads
            if name not in facts and (not name.startswith("actor.on_behalf_of.") or acts_for_another(facts))
        ]

    def _completed(self, facts: Facts) -> Iterator[Facts]:
        absent = self._open(facts)
        for values in itertools.product(*(self.domain[name] for name in absent)):
            yield {**facts, DECLARED: frozenset(facts), **dict(zip(absent, values, strict=True))}


def data_with(facts: Facts) -> Any:
    """Return the data of an event with these facts."""
    data: dict[str, Any] = {}
    for name, value in facts.items():
        *parents, last = name.split(".")
        below = data
        for parent in parents:
            below = below.setdefault(parent, {})
        below[last] = value
    return data_of(**data)


def variations(**choices: Sequence[Any]) -> list[Facts]:
    """Return facts with every combination of values of some fields, each of which may also be left out.

    In the names of fields two underscores stand for a dot; what is a mapping among the values are facts of its own.
    """
    named = [[{}, *_choices(name.replace("__", "."), values)] for name, values in choices.items()]
    return [dict(itertools.chain.from_iterable(map(dict.items, one))) for one in itertools.product(*named)]


def _choices(name: str, values: Sequence[Any]) -> list[Facts]:
    return [value if isinstance(value, dict) else {name: value} for value in values]


def acts_for_another(facts: Facts) -> bool:
    """Tell whether an event names a party that the actor acts for, by any fact about it."""
    return any(name.startswith("actor.on_behalf_of.") for name in facts)


def _parties(facts: Facts) -> list[tuple[str, str]]:
    """Return sector and jurisdiction of each party: always those of the same one."""
    prefixes = ["actor.", *(["actor.on_behalf_of."] if acts_for_another(facts) else [])]
    return [(facts[f"{prefix}sector"], facts.get(f"{prefix}jurisdiction", "")) for prefix in prefixes]


def _us_police_before(facts: Facts) -> bool:
    sector, jurisdiction = _parties({name: v for name, v in facts.items() if "on_behalf_of" not in name})[0]
    recognises = facts["purpose.use_case"] == "facial_recognition"
    return recognises and sector == "law_enforcement" and jurisdiction[:3] == "US-"


def _us_police(facts: Facts) -> bool:
    in_us = [s for s, jurisdiction in _parties(facts) if jurisdiction.split("-")[0] == "US"]
    return facts["purpose.use_case"] == "facial_recognition" and "law_enforcement" in in_us


def _mobile(facts: Facts) -> bool:
    return (
        facts["purpose.use_case"] == "facial_recognition"
        and facts["input.capture.device"] in MOBILE
        and facts["input.capture.timing"] == "real_time"
        and facts["input.capture.setting"] == "in_the_wild"
        and any(sector == "law_enforcement" for sector, _ in _parties(facts))
    )


def _sensitive(facts: Facts) -> bool:
    seen = {"image", "video"} & set(facts["input.modalities"])
    return bool(seen) and bool(set(SENSITIVE) & set(facts["output.inferred_attributes"]))


def _declared_or_detected(use_case: str, category: str) -> Clause:
    def violated(facts: Facts) -> bool:
        signals = facts.get("content.signals") or []
        detected = any(one["category"] == category and one["score"] >= 0.8 for one in signals)
        return detected or facts["purpose.use_case"] == use_case

    return Clause(("purpose.use_case",), violated)


_ACTOR = ("actor.sector", "actor.jurisdiction")
_PARTY = ("actor.on_behalf_of.sector", "actor.on_behalf_of.jurisdiction")
_CAPTURE = ("input.capture.device", "input.capture.timing", "input.capture.setting")
ALWAYS = {
    "sensitive-attribute-inference": Clause(("input.modalities", "output.inferred_attributes"), _sensitive),
    "manipulation-or-deception": _declared_or_detected("deceptive_content", "deception"),
    "romantic-chatbot": _declared_or_detected("romantic_companionship", "romantic_persona"),
    "social-scoring": _declared_or_detected("social_scoring", "social_scoring"),
}
BEFORE = {**ALWAYS, "us-police-facial-recognition": Clause(("purpose.use_case", *_ACTOR), _us_police_before)}
AFTER = {
    **ALWAYS,
    "us-police-facial-recognition": Clause(("purpose.use_case", *_ACTOR, *_PARTY), _us_police),
    "real-time-facial-recognition-on-mobile-cameras": Clause(
        ("purpose.use_case", "actor.sector", _PARTY[0], *_CAPTURE), _mobile
    ),
}
