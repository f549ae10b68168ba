"""Random policies and events that often meet: few words, few numbers, every kind of test that can be looked up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.unit.policy.bundles import TIME, policy
from usageaudit.events.fields import EVENT_FIELDS
from usageaudit.events.times import format_time

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable

    from usageaudit.events.fields import EventField

WORDS = ("a", "b", "ab", "é")
HOUR = 3_600_000_000
TEXTS = (
    "purpose.use_case", "actor.sector", "actor.on_behalf_of.sector", "input.capture.device", "model.provider",
    "application.name", "outcome.status", "registry.sector", "event.source", "event.id",
)  # fmt: skip
LISTS = ("input.modalities", "output.inferred_attributes", "tools", "registry.approved_use_cases")
NUMBERS = (
    "usage.input_tokens", "usage.output_tokens", "outcome.latency_ms", "cost.amount", "size(purpose.use_case)",
    "(usage.input_tokens + usage.output_tokens)", "event.time.getHours()",
)  # fmt: skip
OBJECTS = ("actor.on_behalf_of", "purpose", "input.capture", "usage", "content")
PATTERNS = ("^a", "b$", "a|é", "^$", ".")
COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")

READ = {
    *(tuple(name.split(".")) for name in (*TEXTS, *LISTS)), ("content", "signals"), ("labels",), ("cost", "amount"),
    ("usage", "input_tokens"), ("usage", "output_tokens"), ("outcome", "latency_ms"), ("oversight", "human_review"),
}  # fmt: skip
FIELDS = [field for field in EVENT_FIELDS if field.required or field.path in READ]


class Random:
    """Draws policies and events from a seeded generator."""

    def __init__(self, rnd: random.Random) -> None:
        self._rnd = rnd

    def word(self) -> str:
        """Return one of few words."""
        return self._rnd.choice(WORDS)

    def time(self) -> int:
        """Return a full hour around the one at which revisions change and exceptions expire."""
        return TIME + self._rnd.randrange(-3, 4) * HOUR

    def maybe(self, value: Any) -> Any:
        """Return a value, or sometimes None."""
        return value if self._rnd.random() < 0.6 else None

    def _atom(self) -> str:
        rnd, word = self._rnd, self.word
        text, list_, number = rnd.choice(TEXTS), rnd.choice(LISTS), rnd.choice(NUMBERS)
        several = "[" + ", ".join(f'"{word()}"' for _ in range(rnd.randrange(4))) + "]"
        several = rnd.choice([several, "lists.some"])
        compare, bound = rnd.choice(COMPARISONS), rnd.randrange(4)
        return rnd.choice(
            [
                *[f'{text} == "{word()}"'] * 4,
                f"{text} in {several}",
                f'{text} != "{word()}"',
                f'{text}.startsWith("{word()}")',
                *[f'{text}.matches("{rnd.choice(PATTERNS)}")'] * 2,
                f"has({rnd.choice([text, list_, *OBJECTS])})",
                f'"{word()}" in {list_}',
                f"{list_}.exists(x, x in {several})",
                f'{list_}.exists(x, x == "{word()}")',
                f'{list_}.exists(x, x == "{word()}" || x == {text})',
                f'{list_}.all(x, x.startsWith("{word()}"))',
                f'content.signals.exists(s, s.category == "{word()}" && s.score >= 0.5)',
                f'content.signals.exists(s, s.detector == "{word()}")',
                *[f"{number} {compare} {bound}"] * 3,
                f"{bound} {compare} {number}",
                f'labels["{word()}"] == "{word()}"',
                f'(has({text}) ? {text} : {rnd.choice(TEXTS)}) == "{word()}"',
                "oversight.human_review",
                'record.time - event.time > duration("1h")',
            ]
        )

    def condition(self, depth: int = 2) -> str:
        """Return a condition."""
        rnd = self._rnd
        if depth == 0 or rnd.random() < 0.25:
            return self._atom()
        parts = [self.condition(depth - 1) for _ in range(rnd.choice([2, 2, 3]))]
        joined = [" && ".join(parts), " && ".join(parts), " || ".join(parts)]
        whole = rnd.choice([*joined, f"!({parts[0]})"])
        return f"({parts[0]} ? {parts[1]} : {parts[-1]})" if rnd.random() < 0.05 else f"({whole})"

    def policy(self, name: str) -> str:
        """Return a policy file with one or two revisions, and whatever else changes its verdict."""
        rnd = self._rnd
        cut = format_time(self.time())
        revisions: list[dict[str, Any]] = [{"version": 1, "when": self.condition()}]
        if rnd.random() < 0.25:
            revisions = [{**revisions[0], "to": cut}, {"version": 2, "when": self.condition(), "from": cut}]
        more: dict[str, Any] = {"revisions": revisions, "stage": rnd.choice(["enforce", "enforce", "shadow", "draft"])}
        more["on_unknown"] = rnd.choice(["record", "record", "violate", "ignore"])
        applies = rnd.choice([None, 'model.provider == "a"', "has(record.time)", self.condition(1)])
        if applies is not None:
            more["applies"] = applies
        if rnd.random() < 0.25:
            exception = {"id": "EX", "when": self.condition(1), "approved_by": "x", "reason": "y", "expires": cut}
            more["exceptions"] = [exception]
        return policy(name=name, **more)

    def policies(self) -> list[str]:
        """Return policy files, now few and now many."""
        return [self.policy(f"p{number}") for number in range(self._rnd.choice([1, 3, 8, 16, 24]))]

    def event(self) -> dict[str, Any]:
        """Return the data of an event, with the fields that the conditions read, made from their definition."""
        return self._object(FIELDS)

    def _object(self, fields: Iterable[EventField]) -> dict[str, Any]:
        whole: dict[str, Any] = {}
        for field in fields:
            value = self._value(field) if field.required else self.maybe(self._value(field))
            if value is None and self._rnd.random() < 0.5:
                continue
            below = whole
            for step in field.path[:-1]:
                below = below.setdefault(step, {})
            below[field.path[-1]] = value
        return whole

    def _value(self, field: EventField) -> Any:
        rnd = self._rnd
        match field.kind:
            case "string":
                return self.word()
            case "int":
                return rnd.randrange(4)
            case "double":
                return rnd.choice([0, 0.5, 1.0])
            case "bool":
                return rnd.random() < 0.5
            case "decimal":
                return rnd.choice(["0", "0.5", "2", "3.000000001"])
            case "strings":
                return [self.word() for _ in range(rnd.randrange(4))]
            case "map":
                return {self.word(): self.word() for _ in range(rnd.randrange(3))}
            case "objects":
                return [self._object(field.members) for _ in range(rnd.randrange(3))]
