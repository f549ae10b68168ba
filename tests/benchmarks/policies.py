"""Fifty policies of a large organisation, each written once and put into three languages: ours, Python and SQL."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.benchmarks.terms import (
    Term,
    at_night,
    both,
    cost_above,
    equal,
    lacks,
    matches,
    one_of,
    shares,
    signalled,
    starts_with,
    tokens_above,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

PACK = "bench"
COUNT = 50


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy: its id, `bench/clause`, and when it is violated."""

    id: str
    when: Term


# --- The policies: ten kinds with five of each, and for larger bundles variants of them with other constants.

CAMERAS = (
    ("gpt-4", "facial_recognition", "law_enforcement", ("body_worn_camera", "dash_camera")),
    ("gpt-35", "ocr", "government", ("fixed_camera",)),
    ("o3", "search", "finance", ("phone",)),
    ("claude", "moderation", "healthcare", ("body_worn_camera", "phone")),
    ("llama", "chat", "retail", ("drone", "fixed_camera")),
)
SIGNALLED = (
    ("chat", "romantic_persona", 0.8),
    ("classification", "social_scoring", 0.7),
    ("search", "pii", 0.5),
    ("moderation", "self_harm", 0.9),
    ("code_generation", "jailbreak", 0.8),
)
INFERRED = (
    (("image", "video"), ("age", "gender", "race"), "law_enforcement"),
    (("audio",), ("emotion",), "government"),
    (("image",), ("height",), "finance"),
    (("video",), ("age",), "healthcare"),
    (("image", "audio"), ("gender", "emotion"), "retail"),
)
TOKENS = (11_000, 11_500, 12_000, 12_500, 13_000)
COSTS = (0.0300005, 0.0310005, 0.0320005, 0.0330005, 0.0340005)
PATTERNS = (
    ("actor.id", r"^[^@\s]+@[^@\s]+\.(com|org)$"),
    ("model.name", r"^dall-e-2|titan-text-x"),
    ("application.name", r"(companion|bodycam).*-7$"),
    ("actor.organization", r"^org-00[0-4]$"),
    ("model.deployment", r"titan.*-0[01]$"),
)
USES = (
    ("credit_scoring", "law_enforcement"),
    ("companion_chat", "government"),
    ("ocr", "finance"),
    ("transcription", "healthcare"),
    ("moderation", "retail"),
)
LIVE = (
    ("US", "law_enforcement"),
    ("FR", "government"),
    ("DE", "finance"),
    ("BR", "healthcare"),
    ("IN", "retail"),
)
NIGHTS = (("red-team", 22, 3), ("staging", 23, 2), ("red-team", 21, 1), ("staging", 23, 1), ("red-team", 23, 4))
UNTOOLED = (
    ("sql_query", "rate_limit"),
    ("send_email", "timeout"),
    ("crm_lookup", "content_filter"),
    ("web_search", "invalid_request"),
    ("code_interpreter", "timeout"),
)


def policies(count: int = COUNT) -> list[Policy]:
    """Return so many policies: the fifty, then variants of them that hardly any event meets, as in large bundles."""
    found: list[Policy] = []
    variant = 0
    while len(found) < count:
        found += [policy for number in range(5) for policy in _ten(number, variant)]
        variant += 1
    return found[:count]


def _ten(number: int, variant: int) -> list[Policy]:
    """Return one policy of each kind; `variant` 0 is the original."""
    other = f"_{variant}" if variant else ""
    suffix = f"-variant-{variant}" if variant else ""
    model, use, sector, devices = CAMERAS[number]
    signal_use, category, score = SIGNALLED[number]
    modalities, attributes, inferring = INFERRED[number]
    field, pattern = PATTERNS[number]
    declared, declaring = USES[number]
    jurisdiction, watching = LIVE[number]
    environment, evening, morning = NIGHTS[number]
    tool, error = UNTOOLED[number]
    kinds = {
        "camera": both(
            starts_with("model.name", model),
            equal("purpose.use_case", use + other),
            equal("actor.sector", sector),
            one_of("input.capture.device", devices),
        ),
        "signal": both(
            equal("purpose.use_case", signal_use + other),
            signalled(category, score),
            equal("input.data_classification", "restricted"),
        ),
        "inferred": both(
            shares("input.modalities", modalities),
            shares("output.inferred_attributes", [name + other for name in attributes]),
            equal("actor.sector", inferring),
        ),
        "tokens": tokens_above(TOKENS[number] + 37 * variant),
        "cost": cost_above(round(COSTS[number] * (1 + variant / 10), 7)),
        "pattern": matches(field, f"x{variant}{pattern.lstrip('^')}" if variant else pattern),
        "use": both(
            equal("purpose.use_case", declared + other),
            equal("actor.sector", declaring),
            equal("application.environment", "production"),
        ),
        "live": both(
            shares("input.modalities", ("image", "video")),
            equal("input.capture.timing", "real_time"),
            equal("actor.jurisdiction", jurisdiction + other),
            equal("actor.sector", watching),
        ),
        "night": both(
            equal("application.environment", environment + other),
            at_night(evening, morning),
            equal("input.data_classification", "confidential"),
        ),
        "tool": both(
            equal("outcome.status", "error"), equal("outcome.error_type", error + other), lacks("tools", tool)
        ),
    }
    return [Policy(f"{PACK}/{kind}-{number + 1}{suffix}", when) for kind, when in kinds.items()]


# --- The three forms.


def write_bundle(folder: Path, bundle: Sequence[Policy]) -> Path:
    """Write the policies as a bundle into a new folder, which is returned."""
    (folder / "policies").mkdir(parents=True)
    (folder / "bundle.yaml").write_text(f"name: {PACK}\n", encoding="utf-8")
    for policy in bundle:
        clause = policy.id.removeprefix(f"{PACK}/")
        lines = [
            f"id: {policy.id}",
            f"title: {clause.replace('-', ' ').capitalize()}",
            "severity: medium",
            "revisions:",
            "  - version: 1",
            f"    when: {json.dumps(policy.when.cel)}",
            f'message: "{clause}: {{application.name}} used {{model.name}}"',
            "evidence: [application.name, model.name, actor.organization]",
        ]
        (folder / "policies" / f"{clause}.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def python_functions(bundle: Sequence[Policy]) -> list[tuple[str, Callable[[dict[str, Any], int], bool]]]:
    """Return each policy's id and its function of an event's data and hour, as if written by hand."""
    namespace: dict[str, Any] = {"NOTHING": {}}
    lines = []
    for number, policy in enumerate(bundle):
        body = policy.when.python
        for place, pattern in enumerate(re.findall(r"compiled\(('[^']*')\)", body)):
            name = f"PATTERN_{number}_{place}"
            namespace[name] = re.compile(eval(pattern))
            body = body.replace(f"compiled({pattern})", name)
        lines.append(f"def policy_{number}(d, hour):\n    return {body}")
    exec("\n".join(lines), namespace)
    return [(policy.id, namespace[f"policy_{number}"]) for number, policy in enumerate(bundle)]


def sql_violated(bundle: Sequence[Policy]) -> str:
    """Return an SQL expression over the ledger's columns: the ids of the policies that are violated."""
    found = ", ".join(f"if(ifNull({policy.when.sql}, 0), '{policy.id}', '')" for policy in bundle)
    return f"arrayFilter(id -> id != '', [{found}])"
