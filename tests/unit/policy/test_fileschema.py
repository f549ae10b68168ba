"""The JSON Schemas of policy files say what the loader says, as far as structure goes; jsonschema is the judge."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from tests.unit.policy.bundles import policy, write
from tests.unit.policy.conditions import Random
from usageaudit.cli.run import run
from usageaudit.errors import BundleError
from usageaudit.policy import bundle_from_archive, load_bundle
from usageaudit.policy.fileschema import FILES, file_schema, schema_text
from usageaudit.policy.folders import shipped_packs

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[3]
PUBLISHED = ROOT / "schemas" / "published" / "policy-files"
VALIDATORS = {kind: Draft7Validator(file_schema(kind)) for kind in FILES}
KINDS = {"bundle.yaml": "bundle", "lists.yaml": "lists", "registry.yaml": "registry", "overrides.yaml": "overrides",
         "approvals.yaml": "approvals"}  # fmt: skip


class _Loader(yaml.SafeLoader):
    """YAML as editors read it: what looks like a time is a text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _kind(path: str) -> str:
    return KINDS.get(path) or {"policies": "policy", "tests": "tests"}[path.partition("/")[0]]


def _problems(kind: str, document: Any) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in VALIDATORS[kind].iter_errors(document)]


def _files(folder: Path) -> Iterator[Path]:
    return (file for file in folder.rglob("*.yaml") if not file.relative_to(folder).parts[0].startswith("."))


@pytest.mark.parametrize("kind", FILES)
def test_schemas_are_schemas(kind: str) -> None:
    """Each is valid JSON Schema of draft 7, and says of every key what it means."""
    schema = file_schema(kind)
    Draft7Validator.check_schema(schema)
    undescribed = [
        name for part in _parts({**schema, "definitions": {}}) for name, one in part["properties"].items()
        if "description" not in one and part.get("additionalProperties") is False
    ]  # fmt: skip
    assert undescribed == []


def _parts(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if isinstance(node.get("properties"), dict):
            yield node
        for child in node.values():
            yield from _parts(child)
    elif isinstance(node, list):
        for child in node:
            yield from _parts(child)


@pytest.mark.parametrize("pack", shipped_packs().values(), ids=lambda folder: folder.name)
def test_shipped_packs_are_valid(pack: Path) -> None:
    """Every file of every pack is what its schema says."""
    for file in _files(pack):
        kind = _kind(file.relative_to(pack).as_posix())
        assert _problems(kind, yaml.load(file.read_text(), _Loader)) == [], file.name


def test_init_writes_files_that_name_their_schemas(tmp_path: Path) -> None:
    """Each file of a new bundle leads to a schema beside it, which is the present one, and is valid by it."""
    assert run(["policy", "init", str(tmp_path / "new")]) == 0
    for file in _files(tmp_path / "new"):
        first, _, text = file.read_text().partition("\n")
        schema = file.parent / first.removeprefix("# yaml-language-server: $schema=")
        kind = _kind(file.relative_to(tmp_path / "new").as_posix())
        assert schema.read_text() == schema_text(kind)
        assert _problems(kind, yaml.load(text, _Loader)) == []
    assert load_bundle([tmp_path / "new"]).warnings == ()


@pytest.mark.parametrize("kind", FILES)
def test_published_copies_are_current(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The committed documents are those of the definition; `usageaudit schema policy KIND` prints them."""
    assert json.loads((PUBLISHED / f"{kind}.schema.json").read_text(encoding="utf-8")) == file_schema(kind)
    assert run(["schema", "policy", kind]) == 0
    assert json.loads(capsys.readouterr().out) == file_schema(kind)


EVENT = {
    "operation": "chat",
    "model": {"name": "m"},
    "actor": {"on_behalf_of": {"sector": "x"}},
    "usage": {"input_tokens": 3},
    "cost": {"amount": "0.5"},
    "input": {"modalities": ["text"]},
    "content": {"signals": [{"category": "c", "score": 0.5}]},
    "oversight": {"human_review": True},
    "labels": {"a": "b"},
}
EXCEPTION = {"id": "E", "when": "has(usage)", "approved_by": "me", "reason": "why", "expires": "2026-01-01"}
CHANGED = {
    "stage": "shadow", "severity": "low", "exceptions": [{**EXCEPTION, "id": "F"}],
    "alert": {"dedup_by": ["actor.id"], "for": "24h"},
}  # fmt: skip
TEST = {
    "name": "t", "expect": "violation", "missing": ["labels"], "exception": "E", "event": EVENT, "time": "2026-01-01",
    "record_time": "2026-01-01T00:00:00Z", "source": "s", "id": "i",
}  # fmt: skip
FULL: dict[str, Any] = {
    "bundle.yaml": {"name": "b", "uses": ["hygiene"], "require_approvals": False},
    "lists.yaml": {"some": ["a", "b"], "numbers": [1, 2.5]},
    "registry.yaml": {
        "bot": {"owner": "o", "team": "t", "sector": "s", "jurisdiction": "FR", "approved_use_cases": ["x"],
                "data_classes": ["y"]},
    },
    "overrides.yaml": {"hygiene/use-case-missing": CHANGED},
    "approvals.yaml": [
        {"policy": "b/a", "version": 1, "digest": "0" * 64, "approved_by": "me", "reason": "why", "date": "2026-01-01"}
    ],
    "policies/a.yaml": {
        "id": "b/a", "title": "t", "description": "d",
        "basis": [{"document": "d", "clause": "c", "as_of": "2026-01-01"}],
        "applies": "has(model)", "let": {"unused": "has(input)"}, "on_unknown": "record", "message": "m {actor.id}",
        "revisions": [
            {"version": 1, "to": "2026-01-01", "when": "has(usage)"},
            {"version": 2, "from": "2026-01-01", "to": "2027-01-01", "when": "has(input)"},
        ],
        "evidence": ["actor.id"], **CHANGED, "exceptions": [EXCEPTION], "tests": [TEST],
    },
    "policies/c.yaml": {"id": "b/c", "title": "t", "severity": "low", "when": "has(usage)"},
    "tests/cases.yaml": [
        {
            "name": "n", "event": EVENT, "record_time": "2026-01-01", "source": "s", "id": "i",
            "expect": [{"time": "2026-01-01", "verdicts": {"a": "ok", "others": "ok"}, "missing": {"a": ["labels"]}}],
        }
    ],
}  # fmt: skip


def _loads(files: dict[str, Any]) -> bool:
    """Tell whether the loader takes files."""
    texts = {path: json.dumps(document) for path, document in files.items()}
    manifest = files["bundle.yaml"]
    uses = manifest.get("uses") if isinstance(manifest, dict) else None
    hygiene = shipped_packs()["hygiene"]
    pack = {file.relative_to(hygiene).as_posix(): file.read_text() for file in _files(hygiene)}
    parts = [
        {"name": "hygiene", "uses": [], "files": pack},
        {"name": "b", "uses": ["hygiene"] if uses else [], "files": texts},
    ]
    try:
        bundle_from_archive(json.dumps({"format": 1, "sources": ["b"], "parts": parts}).encode())
    except BundleError:
        return False
    return True


def test_a_file_with_everything_is_taken_by_both() -> None:
    """The files that the mutations below begin with are good, and have every key that there is."""
    assert _loads(FULL)
    assert {path: problems for path, one in FULL.items() if (problems := _problems(_kind(path), one))} == {}


def _places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    for key, child in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from _places(child, (*path, key))


def _changed(document: Any, path: tuple[Any, ...], change: Callable[[Any], Any]) -> Any:
    if not path:
        return change(document)
    whole = copy.copy(document)
    whole[path[0]] = _changed(document[path[0]], path[1:], change)
    return whole


SPOTS = [(file, place) for file, document in FULL.items() if file != "bundle.yaml" for place in _places(document)]
CLAUSES = [("tests/cases.yaml", (0, "expect", 0, name)) for name in ("verdicts", "missing")]
"""Mappings by clauses: which there are says the bundle, not the schema."""
BOUNDS = [("policies/a.yaml", ("revisions", *end)) for end in ((0, "to"), (1, "from"))]
"""Where revisions meet: without one of the two they overlap, which no schema can say."""
OTHERS: list[Any] = [True, 7, 1.5, "", "text", [], {}, ["text"], [7], {"text": "text"}, {"text": 7}, [[]], [{}]]


def _type(value: Any) -> str:
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SPOTS), st.sampled_from(OTHERS))
def test_a_value_of_another_type_is_refused_by_both_or_by_none(spot: tuple[str, tuple[Any, ...]], other: Any) -> None:
    """Wherever a value is replaced by one of another type, the schema says what the loader says."""
    file, place = spot
    old = FULL[file]
    for step in place:
        old = old[step]
    if _type(old) != _type(other):
        document = _changed(FULL[file], place, lambda _: other)
        assert _loads({**FULL, file: document}) == (_problems(_kind(file), document) == []), (place, other)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([spot for spot in SPOTS if spot not in CLAUSES]),
    st.sampled_from(["unknown", "Severity", "x-extra", " "]),
)
def test_an_unknown_key_is_refused_by_both_or_by_none(spot: tuple[str, tuple[Any, ...]], name: str) -> None:
    """A key that nothing knows is wrong wherever keys are not names of the author's own."""
    file, place = spot
    added: list[str] = []

    def add(node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        added.append(name)
        return {**node, name: next(iter(node.values()), "x")}

    document = _changed(FULL[file], place, add)
    if added:
        assert _loads({**FULL, file: document}) == (_problems(_kind(file), document) == []), place


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([spot for spot in SPOTS if spot[1] and spot not in BOUNDS]), st.booleans())
def test_a_key_left_out_or_null_is_refused_by_both_or_by_none(spot: tuple[str, tuple[Any, ...]], null: bool) -> None:
    """What is required is the same for both; null is the same as leaving out, where that is allowed."""
    file, (*above, key) = spot

    def without(node: Any) -> Any:
        if null:
            return _changed(node, (key,), lambda _: None)
        return {name: one for name, one in node.items() if name != key} if isinstance(node, dict) else node

    document = _changed(FULL[file], tuple(above), without)
    assert _loads({**FULL, file: document}) == (_problems(_kind(file), document) == []), (spot, null)


@pytest.mark.parametrize(
    ("manifest", "good"),
    [
        ({"name": "b"}, True),
        ({"name": "b", "uses": None, "require_approvals": True}, True),
        ({"name": "b", "uses": []}, True),
        ({}, False),
        ([], False),
        ({"name": 7}, False),
        ({"name": "B"}, False),
        ({"name": "b", "use": []}, False),
        ({"name": "b", "uses": "hygiene"}, False),
        ({"name": "b", "uses": [7]}, False),
        ({"name": "b", "require_approvals": "true"}, False),
        ({"name": "b", "require_approvals": 1}, False),
    ],
)
def test_manifests_are_refused_by_both(tmp_path: Path, manifest: Any, good: bool) -> None:
    """The same for bundle.yaml, which is read while the parts of a bundle are gathered."""
    files: dict[str, str | bytes] = {"bundle.yaml": json.dumps(manifest), "policies/a.yaml": policy(pack="b")}
    try:
        loaded = bool(load_bundle([write(tmp_path, files)]))
    except BundleError:
        loaded = False
    assert (loaded, _problems("bundle", manifest) == []) == (good, good)


@settings(max_examples=50, deadline=None)
@given(st.randoms(use_true_random=False))
def test_policies_that_load_are_valid(rnd: random.Random) -> None:
    """No policy that the loader takes is refused by the schema."""
    for text in Random(rnd).policies():
        assert _problems("policy", yaml.load(text, _Loader)) == []
