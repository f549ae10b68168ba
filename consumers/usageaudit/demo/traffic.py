"""How much and when: token counts shaped like real traffic, the hours of a week, and prices.

Token counts follow quantiles taken from the Azure Public Dataset, AzureLLMInferenceTrace 2023 (Microsoft, CC BY 4.0,
published with Patel et al., "Splitwise", ISCA 2024): 19,366 requests to a conversation service and 8,819 to a code
completion service, in which input and output lengths do not depend on each other. Prices are illustrative, near the
list prices of spring 2024.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

Shape = Literal["conversation", "code"]
Rhythm = Literal["office", "service", "evening", "night"]

PROBABILITIES = (0.0, 0.01, 0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95, 0.99, 1.0)

QUANTILES: dict[Shape, tuple[Sequence[int], Sequence[int]]] = {
    "conversation": (
        (2, 29, 181, 207, 396, 1020, 1189, 2735, 4083, 4142, 14050),
        (7, 16, 41, 54, 85, 129, 395, 424, 451, 601, 1000),
    ),
    "code": (
        (3, 17, 75, 147, 578, 1469, 2745, 5194, 7315, 7436, 7437),
        (6, 6, 6, 7, 9, 13, 24, 55, 90, 252, 1899),
    ),
}
"""Input and output tokens of each service at PROBABILITIES."""

_WORKDAY: dict[Rhythm, Sequence[float]] = {
    "office": (0, 0, 0, 0, 0, 0, 0.5, 3, 8, 11, 12, 10, 6, 9, 11, 10, 8, 5, 2, 1, 0.5, 0.3, 0.1, 0),
    "service": (1, 0.7, 0.5, 0.5, 0.7, 1, 2, 4, 6, 8, 9, 8, 8, 8, 8, 7, 7, 7, 6, 5, 5, 4, 3, 2),
    "evening": (3, 1, 0.5, 0.2, 0.1, 0.1, 0.2, 0.5, 0.5, 0.5, 0.5, 1, 2, 1, 1, 1, 2, 4, 7, 9, 11, 12, 9, 6),
    "night": (0, 14, 30, 22, 6, 0.5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2),
}
_WEEKEND: dict[Rhythm, float] = {"office": 0.04, "service": 0.5, "evening": 1.6, "night": 0.3}
"""How busy a day of the weekend is, next to a working day."""


def week_weights(rhythm: Rhythm) -> list[float]:
    """Return how busy each of the 168 hours of a week is, from Monday on."""
    hours = _WORKDAY[rhythm]
    return [weight * (1.0 if day < 5 else _WEEKEND[rhythm]) for day in range(7) for weight in hours]


def draw_tokens(random: Random, shape: Shape) -> tuple[int, int]:
    """Draw input and output tokens of one request."""
    inputs, outputs = QUANTILES[shape]
    return _quantile(inputs, random.random()), _quantile(outputs, random.random())


def _quantile(values: Sequence[int], probability: float) -> int:
    """Interpolate between quantiles on a logarithmic scale, since lengths spread over orders of magnitude."""
    upper = next(i for i, known in enumerate(PROBABILITIES) if probability <= known) or 1
    low, high = PROBABILITIES[upper - 1], PROBABILITIES[upper]
    share = (probability - low) / (high - low)
    return round(math.exp(math.log(values[upper - 1]) * (1 - share) + math.log(values[upper]) * share))


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens in and out, for an image and for a minute of audio."""

    input: Decimal = Decimal(0)
    output: Decimal = Decimal(0)
    image: Decimal = Decimal(0)
    minute: Decimal = Decimal(0)


PRICES: dict[str, Price] = {
    "gpt-4-turbo": Price(Decimal(10), Decimal(30)),
    "gpt-4": Price(Decimal(30), Decimal(60)),
    "gpt-35-turbo": Price(Decimal("0.5"), Decimal("1.5")),
    "text-embedding-3-large": Price(Decimal("0.13")),
    "whisper-1": Price(minute=Decimal("0.006")),
    "dall-e-3": Price(image=Decimal("0.04")),
    "anthropic.claude-3-haiku": Price(Decimal("0.25"), Decimal("1.25")),
    "anthropic.claude-3-sonnet": Price(Decimal(3), Decimal(15)),
}

_MILLION = Decimal(1_000_000)
_SCALE = Decimal("0.000000001")


def cost_of(model: str, input_tokens: int, output_tokens: int, images: int = 0, audio_seconds: float = 0.0) -> str:
    """Return the price of a request in US dollars, as the event writes amounts."""
    price = PRICES[model]
    tokens = (price.input * input_tokens + price.output * output_tokens) / _MILLION
    amount = tokens + price.image * images + price.minute * Decimal(str(audio_seconds)) / 60
    return format(amount.quantize(_SCALE).normalize(), "f")
