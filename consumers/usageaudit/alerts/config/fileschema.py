"""The JSON Schema of an `alerts.yaml`, with which editors complete and check it, and the reference of its keys."""

from __future__ import annotations

import json
from typing import Any

from usageaudit.alerts.config.shapes import ALERTS, SECTIONS
from usageaudit.policy.shapes import object_of

_DIALECT = "http://json-schema.org/draft-07/schema#"
"""What editors of YAML read; nothing later is needed."""


def alerts_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 7)."""
    head = {"$schema": _DIALECT, "$id": "urn:usageaudit:schema:alerts", "title": "Who is told of alerts: alerts.yaml"}
    return {**head, **object_of(ALERTS)}


def alerts_schema_text() -> str:
    """Return the schema as the text of a file."""
    return json.dumps(alerts_schema(), indent=2, ensure_ascii=False) + "\n"


def reference() -> str:
    """Return what every key means, as Markdown."""
    return "\n".join(f"{_table(heading)}\n" for heading in SECTIONS)


def _table(heading: str) -> str:
    rows = [f"| `{name}` | {'yes' if key.required else ''} | {key.doc} |" for name, key in SECTIONS[heading].items()]
    return "\n".join((f"### {heading}", "", "| Key | Needed | Meaning |", "|---|---|---|", *rows))
