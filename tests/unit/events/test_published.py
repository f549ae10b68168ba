"""The published schema, stream document and examples follow from the definition and say what decoding does."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.validators import extend

from usageaudit.cloudevents import decode
from usageaudit.errors import InvalidEvent
from usageaudit.events.asyncapi import asyncapi_document
from usageaudit.events.examples import example_events
from usageaudit.events.fields import EVENT_FIELDS
from usageaudit.events.jsonschema import event_schema

MUTATIONS = 500
PUBLISHED = Path(__file__).parents[3] / "schemas" / "published"


def _is_integer(checker: object, value: object) -> bool:
    """JSON Schema takes 1.0 for an integer; our integers are written without a fraction."""
    return isinstance(value, int) and not isinstance(value, bool)


VALIDATOR: Any = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator, type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer)
)(event_schema())

# A newline is left out: Python's `$`, unlike that of JSON Schema, also matches before one at the end.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=8)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
    | st.sampled_from(["0.5", "-1.25", "1.", "2024-05-01T00:00:00Z", "2024-05-01", "1.0", "application/json", ""])
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=5
)


def _places(node: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    inner: list[tuple[str | int, ...]] = []
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in children:
        inner += [(*path, key), *_places(child, (*path, key))]
    return inner


@st.composite
def mutated_events(draw: st.DrawFn) -> dict[str, Any]:
    """Draw an example event in which up to three places hold something else, or nothing."""
    event: dict[str, Any] = copy.deepcopy(draw(st.sampled_from(list(example_events().values()))))
    for _ in range(draw(st.integers(0, 3))):
        *parents, last = draw(st.sampled_from(_places(event) or [("data",)]))
        node: Any = event
        for step in parents:
            node = node[step]
        if draw(st.booleans()):
            node[last] = draw(values)
        else:
            del node[last]
    return event


def _decodes(event: dict[str, Any]) -> bool:
    try:
        decode(json.dumps(event).encode())
    except InvalidEvent:
        return False
    return True


@settings(max_examples=MUTATIONS)
@given(mutated_events())
def test_schema_and_decoding_agree(event: dict[str, Any]) -> None:
    """What the published schema accepts is decoded, and what it refuses is refused."""
    assert VALIDATOR.is_valid(event) == _decodes(event), event


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("usage", "input_tokens"), True),
        (("usage", "input_tokens"), -1),
        (("usage", "input_tokens"), 2**63),
        (("actor", "id"), ""),
        (("cost", "amount"), 0.5),
        (("input", "modalities"), ["text", None]),
        (("labels", "cost_center"), 4),
    ],
)
def test_schema_refuses_what_decoding_refuses(path: tuple[str, str], value: object) -> None:
    """Each wrong value that the definition names is refused by both."""
    event = example_events()["full"]
    event["data"][path[0]][path[1]] = value
    assert not VALIDATOR.is_valid(event)
    assert not _decodes(event)


def test_schema_is_a_schema() -> None:
    """The published document is valid JSON Schema of draft 2020-12."""
    Draft202012Validator.check_schema(event_schema())


def test_every_field_is_described() -> None:
    """No field of the event is published without saying what it means."""
    definitions = event_schema()["$defs"]
    missing = [
        f"{name}.{field}"
        for name, part in definitions.items()
        for field, schema in part["properties"].items()
        if not schema.get("description")
    ]
    assert missing == []


def test_examples_are_events() -> None:
    """Both examples are valid; the full one has every field and the minimal one only what is required."""
    full, minimal = example_events()["full"], example_events()["minimal"]
    assert decode(json.dumps(full).encode()).unknown_fields == 0
    assert all(_has(full["data"], field.path) for field in EVENT_FIELDS)
    assert [field.name for field in EVENT_FIELDS if _has(minimal["data"], field.path)] == [
        field.name for field in EVENT_FIELDS if field.required
    ]
    assert VALIDATOR.is_valid(full)
    assert VALIDATOR.is_valid(minimal)


def _has(data: Any, path: tuple[str, ...]) -> bool:
    for step in path:
        if step not in data:
            return False
        data = data[step]
    return True


def test_references_of_the_stream_document_lead_somewhere() -> None:
    """Every `$ref` of the AsyncAPI document points at a part of it."""
    document = asyncapi_document()
    text = json.dumps(document)
    assert "#/$defs/" not in text
    for reference in _references(document):
        node: Any = document
        for step in reference.removeprefix("#/").split("/"):
            node = node[step]


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if "$ref" in node else []
        return own + [reference for child in node.values() for reference in _references(child)]
    return [reference for child in node for reference in _references(child)] if isinstance(node, list) else []


@pytest.mark.parametrize(
    ("file", "document"),
    [
        ("usage-event.schema.json", event_schema()),
        ("asyncapi.json", asyncapi_document()),
        ("examples/full.json", example_events()["full"]),
        ("examples/minimal.json", example_events()["minimal"]),
    ],
)
def test_published_copies_are_current(file: str, document: dict[str, Any]) -> None:
    """The committed documents are those of the definition; `usageaudit schema` prints them anew."""
    assert json.loads((PUBLISHED / file).read_text(encoding="utf-8")) == document
