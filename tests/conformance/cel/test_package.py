"""The data: all of it is read, and read as it is written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conformance.cel import package
from tests.conformance.cel.package import CEL_SPEC, literal

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conformance.cel.cases import Case

KEYS = st.from_regex(r"[A-Za-z_$][A-Za-z0-9_$]{0,5}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("'\"\\,:{}[]"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(KEYS, below, max_size=3),
)


def test_every_case_is_read(conformance: tuple[Case, ...], parser_cases: tuple[Case, ...]) -> None:
    """All cases of the pinned version are there, each with a name and what is to be evaluated."""
    assert (len(conformance), len(parser_cases)) == (2344, 194)
    assert len({case.name.partition("/")[0] for case in conformance}) == 28
    assert [case for case in (*conformance, *parser_cases) if not case.text] == []


def test_cases_have_values(conformance: tuple[Case, ...]) -> None:
    """What the data says of a case is what the case has."""
    by_name = {case.name: case for case in conformance}
    (variable,) = by_name["comparisons/bound/int_lte_right_true"].variables
    assert (variable.name, variable.value) == ("x", 124)
    assert by_name["integer_math/int64_math/divide_zero"].expected.error
    assert by_name["fp_math/fp_math/divide_zero"].expected.value == float("inf")
    assert by_name["string/size/unicode"].expected.value == 5


@given(VALUES)
def test_javascript_is_read(value: object) -> None:
    """A literal is read whichever quotes it has, with and without commas at the end, and keys without quotes."""
    assert literal(f"export const tests = {_javascript(value)};\n") == value


def test_another_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a registry gives under the pinned version is used only if its digest is the pinned one."""

    def registry(command: object, folder: Path) -> None:
        (folder / "cel-spec.tgz").write_bytes(b"something else")

    monkeypatch.setenv("USAGEAUDIT_TEST_CACHE", str(tmp_path))
    monkeypatch.setattr(package, "run", registry)
    with pytest.raises(ValueError, match="has the SHA-256"):
        CEL_SPEC.install()
    assert not CEL_SPEC.path.exists()


def _javascript(value: object) -> str:
    match value:
        case dict():
            return "{" + "".join(f"\n  {key}: {_javascript(item)}," for key, item in value.items()) + "\n}"
        case list():
            return "[" + ", ".join(map(_javascript, value)) + (",\n]" if value else "]")
        case str() if len(value) % 2:
            text = json.dumps(value)[1:-1].replace('\\"', '"').replace("'", "\\'")
            return f"'{text}'"
        case _:
            return json.dumps(value)
