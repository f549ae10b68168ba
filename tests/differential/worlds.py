"""Bundles around random conditions: lists, sub-conditions and a registry, loaded as any bundle is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.differential import pools
from tests.differential.grammar import Grammar, Vocabulary
from tests.differential.sides import number_of
from tests.unit.policy.bundles import bundle_of, policy
from usageaudit.policy.language import (
    OPERATORS,
    Call,
    Has,
    InvalidCondition,
    Origin,
    Quantified,
    parse,
    quote,
    unparse,
    walk,
)

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Mapping, Sequence

    from usageaudit.policy import Bundle, RegistryEntry
    from usageaudit.policy.language import Condition, Operator
    from usageaudit.policy.python import Values

LISTS = """
words: [{words}]
few: ["a", "ab"]
none: []
counts: [0, 7, -7, 9007199254740993, 9223372036854775807, -9223372036854775808]
measures: [0.0, 0.5, 1.0, 3.0, 9007199254740992.0, 9.223372036854775808e+18]
"""
LETS = {
    "anywhere": 'has(actor.sector) || "a" in tools',
    "somewhere": "!anywhere && oversight.human_review",
    "nowhere": "usage.images > 3 && content.signals.exists(s, s.score >= 0.5)",
}


@dataclass(frozen=True, slots=True)
class World:
    """A bundle's lists, registry and sub-conditions, without its policies; `files` are its files' texts."""

    vocabulary: Vocabulary
    registry: Mapping[str, RegistryEntry]
    files: Mapping[str, str]

    def bundle(self, conditions: Sequence[str]) -> Bundle:
        """Return a bundle with a policy for each condition, whose id is its number."""
        policies = [policy(text, name=str(number), let=self.vocabulary.lets) for number, text in enumerate(conditions)]
        return bundle_of(*policies, **self.files)

    def conditions(self, bundle: Bundle) -> list[Condition]:
        """Return the checked conditions of a bundle in their order."""
        by_number = {number_of(policy.id): policy for policy in bundle.policies}
        return [by_number[number].revisions[0].when for number in range(len(by_number))]

    def random_conditions(
        self, rnd: random.Random, values: Sequence[Values], rows: Iterable[Operator] = OPERATORS
    ) -> list[str]:
        """Return a valid condition for each of some operators, in which it is applied."""
        grammar = Grammar(rnd, self.vocabulary, values)
        return [_valid(grammar, row) for row in rows]


def world(rnd: random.Random) -> World:
    """Return lists and sub-conditions, and a registry with entries that say more or less."""
    files = {
        "lists": LISTS.format(words=", ".join(map(quote, pools.LISTED[1:]))),
        "registry": "".join(f"{quote(name)}: {_entry(rnd)}\n" for name in pools.REGISTERED),
    }
    loaded = bundle_of(policy(), **files)
    return World(Vocabulary(loaded.lists, LETS), loaded.registry, files)


def _entry(rnd: random.Random) -> str:
    texts = ("owner", "team", "sector", "jurisdiction")
    parts = [f"{name}: {quote(rnd.choice(pools.LISTED[1:]))}" for name in texts if rnd.random() < 0.6]
    for name in ("approved_use_cases", "data_classes"):
        if rnd.random() < 0.7:
            found = rnd.sample(pools.LISTED[1:], rnd.choice((0, 1, 2)))
            parts.append(f"{name}: [{', '.join(map(quote, found))}]")
    return f"{{{', '.join(parts)}}}"


def rows_applied(conditions: Iterable[Condition]) -> set[Operator]:
    """Return the operators that occur in conditions."""
    nodes = (node for condition in conditions for node in walk(condition.root))
    return {node.operator for node in nodes if isinstance(node, Call | Has | Quantified)}


def _valid(grammar: Grammar, row: Operator) -> str:
    """Return a condition that the checker takes; of those drawn it refuses few, such as lists of several types."""
    refused = ""
    for _ in range(20):
        text = unparse(parse(grammar.condition(row), origin=Origin("random")).tree)
        try:
            condition = grammar.checked(text)
        except InvalidCondition as fault:
            refused = str(fault)
        else:
            # The call of a constant is computed when it is checked.
            if row in rows_applied([condition]):
                return text
    raise AssertionError(f"no valid condition with {row.signature} in 20 draws, the last one: {refused}")
