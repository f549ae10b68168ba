"""YAML read with places: what is refused, and that every error points at the spot."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.policy.bundles import bundle_of, policy, write
from usageaudit.policy import InvalidBundle, load_bundle
from usageaudit.policy.report import Report
from usageaudit.policy.yamltree import Mapping, Scalar, TextFile, read_yaml

if TYPE_CHECKING:
    from pathlib import Path

    from usageaudit.policy.language import Diagnostic

ORIGINAL = policy()


def _errors(*policies: str, **files: str) -> list[Diagnostic]:
    with pytest.raises(InvalidBundle) as refused:
        bundle_of(*policies, **files)
    return list(refused.value.diagnostics)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("plain", "actor.sectr == 'x'"),
        ("plain over lines", "actor.type == 'x' &&\n      actor.sectr\n      == 'x'"),
        ("single quotes", "'actor.type == ''x'' && actor.sectr == ''x'''"),
        ("double quotes", '"actor.type == \\"x\\" \\u0026& actor.sectr == \'x\'"'),
        ("double quotes over lines", "\"actor.type == 'x' &&\\\n      \\ actor.sectr\n      == 'x'\""),
        ("literal block", "|\n      actor.type == 'x'\n        && actor.sectr == 'x'"),
        ("literal block with a comment", "|-  # why\n\n      actor.type == 'é😀'\n\n        && actor.sectr == 'x'"),
        ("folded block", ">\n      actor.type == 'x'\n      && actor.sectr == 'x'"),
        ("folded block, indented more", ">2\n        actor.type == 'x'\n\n        && actor.sectr == 'x'"),
    ],
)
def test_error_in_a_condition_points_at_the_name(name: str, written: str) -> None:
    """However a condition is written in YAML, an error in it has the line and column of the file."""
    text = f"id: test/a\ntitle: {name}\nseverity: low\nrevisions:\n  - version: 1\n    when: {written}\n"
    [error] = _errors(text)
    line = text.split("\n")[error.line - 1]
    assert line[error.column - 1 :].startswith("actor.sectr")
    assert error.width == len("actor.sectr")
    assert error.file == "test/policies/0000.yaml"
    assert "did you mean actor.sector?" in str(error)


texts = st.text(st.sampled_from("ab \n\t'\"\\é😀#:-,[]{}&*!|>%@`?"), max_size=30)


@settings(max_examples=300, deadline=None)
@given(texts, st.sampled_from(["'", '"', "|", ">", None]), st.integers(20, 200))
def test_every_character_is_found_where_it_stands(text: str, style: str | None, width: int) -> None:
    """The place of each visible character of a scalar has that character in the file, or an escape that stands for it.

    PyYAML writes the file, in every style and folded at every width.
    """
    written = yaml.safe_dump({"key": text}, default_style=style, width=width, allow_unicode=True)
    root = read_yaml(TextFile.of("f", written), Report())
    assert isinstance(root, Mapping)
    scalar = root.entries[0][1]
    assert isinstance(scalar, Scalar)
    if scalar.tag == "null":
        return
    assert scalar.text == text
    origin = scalar.origin()
    for offset, character in enumerate(text):
        line, column = origin.position(offset)
        found = written.split("\n")[line - 1][column - 1 :]
        if not character.isspace():
            assert found.startswith((character, "\\"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("# only a comment\n", "the file is empty"),
        ("just text", "a policy is a mapping"),
        ("- a\n- b\n", "a policy is a mapping"),
        ("a: &x 1\n", "anchors"),
        ("a: *x\n", "aliases"),
        ("a: !!python/object/apply:os.system [ls]\n", "tags"),
        ("a: !local x\n", "tags"),
        ("--- \na: 1\n--- \nb: 1\n", "a second document"),
        ("a: [1\n", "not YAML"),
        ("a: b: c\n", "not YAML"),
        ("%YAML 1.1\n---\na: 1\n", "directives"),
        ("\ta: 1\n", "not YAML"),
        ("a: '\x07'\n", "not YAML"),
        ("? [a]\n: 1\n", "the key of a mapping must be a word"),
        ("title: x\ntitle: y\n", "title is here twice"),
        ("[" * 10_000, "nested more than 24 levels deep"),
        ("{a: " * 10_000, "nested more than 24 levels deep"),
        ("- " * 10_000, "nested more than 24 levels deep"),
        ("x: 1\n" + " " * 50 + "y: 2\n", "not YAML"),
    ],
)
def test_what_is_no_policy_file_is_refused(text: str, message: str) -> None:
    """A file that is no YAML mapping, or says something else than it shows, is an error with its place."""
    assert any(message in error.message and error.line >= 1 for error in _errors(text))


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80) | st.binary(max_size=80).map(lambda raw: raw.decode("latin-1")))
def test_any_text_is_refused_with_a_place_and_without_a_traceback(text: str) -> None:
    """A text as a file of a bundle either is one, or is refused with InvalidBundle and nothing else."""
    for name in ("policies", "lists", "registry", "overrides"):
        files = {"lists": text} if name == "policies" else {name: text}
        with contextlib.suppress(InvalidBundle):
            bundle_of(text if name == "policies" else ORIGINAL, **files)


@pytest.mark.parametrize(
    ("text", "line", "hint"),
    [
        ("id: test/a\ntitle: No: never\n", 2, "in quotes"),
        ("id: test/a\nwhen has(input)\n", 2, "a colon and a space"),
        ('when: "a == "b""\n', 1, "below `when: |`"),
        ("when: |\n  a\n\ttitle: a\n", 3, "spaces"),
        ("when: !police\n", 1, "that begins with ! in quotes"),
    ],
)
def test_common_slips_of_yaml_come_with_what_to_do(text: str, line: int, hint: str) -> None:
    """What the parser says is put into an author's words, at the line where the slip is."""
    [error] = _errors(text)
    assert (error.line, hint in error.hint) == (line, True), error


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe\x00", "is not UTF-8"),
        (b"a: " + b"x" * (1 << 20), "the file has more than 1 MiB"),
        (b"\x00" * 100, "not YAML"),
    ],
)
def test_unreadable_file_is_an_error_of_the_bundle(tmp_path: Path, content: bytes, message: str) -> None:
    """Bytes that are no text, and a file that is too large, are errors like others."""
    folder = write(tmp_path / "b", {"bundle.yaml": "name: test", "policies/a.yaml": ORIGINAL, "lists.yaml": content})
    with pytest.raises(InvalidBundle, match=message):
        load_bundle([folder])


@pytest.mark.parametrize(
    ("lists", "message", "hint"),
    [
        ("a: [DE, NO]", "NO is none", "put it in quotes"),
        ("a: [1, x]", "x is none", "put all entries in quotes"),
        ("a: [12:30]", "no number in decimal notation", ""),
        ("a: [0777]", "no number in decimal notation", ""),
        ("a: [.inf]", "no number in decimal notation", ""),
        ("a: [[x]]", "is a text, not a list", ""),
        ("a: x", "lists.a is a list", ""),
        ("a: [~]", "~ is none", "put it in quotes"),
        ("a-b: [x]", "no name of a list", ""),
        ("- a", "lists.yaml is a mapping", ""),
    ],
)
def test_values_that_yaml_reads_in_its_own_way_are_refused(lists: str, message: str, hint: str) -> None:
    """What YAML takes for a truth value or a number where a text is meant is an error that says to quote it."""
    [error] = _errors(ORIGINAL, lists=lists)
    assert message in f"{error.message}"
    assert hint in error.hint


def test_lists_hold_texts_or_numbers() -> None:
    """A list keeps what it says: texts, dates as texts, integers, and doubles as soon as one is."""
    lists = bundle_of(ORIGINAL, lists="a: ['NO', 2024-05-01, x]\nb: [1, -2]\nc: [1, 2.5]\nd: []").lists
    assert lists == {"a": ("NO", "2024-05-01", "x"), "b": (1, -2), "c": (1.0, 2.5), "d": ()}
    assert all(isinstance(value, float) for value in lists["c"])
