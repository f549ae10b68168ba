"""JSON Schemas of the files of a bundle, with which editors complete and check them."""

from __future__ import annotations

import json
from typing import Any

from usageaudit.events.jsonschema import data_definitions
from usageaudit.policy.shapes import (
    APPLICATION,
    APPROVAL,
    CASE,
    LISTS,
    MANIFEST,
    OVERRIDE,
    POLICY,
    POLICY_ID,
    TESTS_OF,
    list_of,
    map_of,
    object_of,
    or_null,
)

_DIALECT = "http://json-schema.org/draft-07/schema#"
"""What editors of YAML read; nothing later is needed."""
_IN_LISTS = ("Signal", "Guardrail")
"""Parts of an event that stand in lists: they need what they need, and may have more."""
FILES = {
    "policy": "A policy: a file below policies/",
    "tests": "Whole events with the verdicts of a bundle's policies: a file below tests/",
    "bundle": "A bundle of policies: bundle.yaml",
    "lists": "The lists that conditions name: lists.yaml",
    "registry": "The registry of applications: registry.yaml",
    "overrides": "What a bundle changes about policies of packs that it uses: overrides.yaml",
    "approvals": "Who approved which policy: approvals.yaml",
}
"""The kinds of files that there is a schema of, and what each is."""


def file_schema(kind: str) -> dict[str, Any]:
    """Return the JSON Schema (draft 7) of a kind of file, one of FILES."""
    body = _bodies()[kind]
    head = {"$schema": _DIALECT, "$id": f"urn:usageaudit:schema:policy-files:{kind}", "title": FILES[kind]}
    return {**head, **body, "definitions": _event()} if kind in ("policy", "tests") else {**head, **body}


def schema_text(kind: str) -> str:
    """Return the schema as the text of a file."""
    return json.dumps(file_schema(kind), indent=2, ensure_ascii=False) + "\n"


def schema_file(kind: str) -> str:
    """Return the name of the file that a schema is kept in."""
    return f"{kind}.schema.json"


def _bodies() -> dict[str, dict[str, Any]]:
    return {
        "policy": {**object_of(POLICY), "oneOf": _ONE_WAY, **_tests()},
        "tests": list_of(object_of(CASE)),
        "bundle": object_of(MANIFEST),
        "lists": LISTS,
        "registry": map_of(object_of(APPLICATION)),
        "overrides": map_of(object_of(OVERRIDE), POLICY_ID),
        "approvals": list_of(object_of(APPROVAL)),
    }


_ONE_WAY = [
    {"required": ["when"], "properties": {"when": {"type": "string"}, "revisions": {"maxItems": 0}}},
    {
        "required": ["revisions"],
        "properties": {"when": {"type": "null"}, "revisions": {"type": "array", "minItems": 1}},
    },
]
"""A policy has one condition, or revisions with theirs."""


def _tests() -> dict[str, Any]:
    """Return what the tests of a policy are: single events, or streams of them where it has a window."""
    windowed = {"required": ["window"], "properties": {"window": {"type": "object"}}}
    of = {windowed: {"properties": {"tests": or_null(tests)}} for windowed, tests in TESTS_OF.items()}
    return {"if": windowed, "then": of[True], "else": of[False]}


def _event() -> dict[str, Any]:
    """Return the parts of a usage event as a test writes it: what is required is filled in, nothing is unknown."""
    parts = data_definitions("#/definitions/")
    for name in parts.keys() - set(_IN_LISTS):
        parts[name] = {**parts[name], "additionalProperties": False}
        parts[name].pop("required", None)
    return parts
