"""Whatever an `alerts.yaml` holds, it is read or refused with an error of ours, and editors' schema agrees."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from tests.unit.alerts.config.files import FULL, give_secrets, written
from usageaudit.alerts.config import InvalidAlerts, alerts_schema, alerts_schema_text, read_alerts
from usageaudit.alerts.config.shapes import SECTIONS
from usageaudit.alerts.config.templates import FIELDS
from usageaudit.cli.run import run

if TYPE_CHECKING:
    from collections.abc import Iterator

PUBLISHED = Path(__file__).parents[4] / "schemas" / "published" / "alerts.schema.json"
VALIDATOR = Draft7Validator(alerts_schema())
WORDS = sorted({name for shape in SECTIONS.values() for name in shape} | set(FIELDS) | {"soc", "chat", "high", "mon"})
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        (*WORDS, "22:00", "1h", "{message}", "{x.y}", "https://a.example/", "10.0.0.0/8", "[::1]", "~x/y")
    )
)
TREES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)
FUZZ = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with the secrets of FULL in it and around it."""
    give_secrets(tmp_path, monkeypatch)
    return tmp_path


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every place of a document that can be changed: what holds it, and where in that."""
    for name in list(node) if isinstance(node, dict) else range(len(node)):
        yield node, name
        if isinstance(node[name], dict | list):
            yield from _places(node[name])


def _is_read(folder: Path, text: str) -> bool:
    try:
        read_alerts(written(folder, text))
    except InvalidAlerts:
        return False
    return True


@FUZZ
@given(st.data())
def test_changed_files_are_read_or_refused(folder: Path, data: st.DataObject) -> None:
    """A good file with a few places changed is read or refused; what is read is valid by the schema, too."""
    document = copy.deepcopy(FULL)
    for _ in range(data.draw(st.integers(1, 3))):
        places = list(_places(document))
        holder, name = places[data.draw(st.integers(0, len(places) - 1))]
        if data.draw(st.booleans()):
            del holder[name]
        else:
            holder[name] = data.draw(TREES)
    if _is_read(folder, json.dumps(document)):
        assert [error.message for error in VALIDATOR.iter_errors(yaml.safe_load(json.dumps(document)))] == []


@FUZZ
@given(TREES)
def test_any_tree_is_read_or_refused(folder: Path, tree: Any) -> None:
    """Any document at all is read or refused, written as YAML in the way of others."""
    _is_read(folder, yaml.safe_dump(tree, allow_unicode=True))


@FUZZ
@given(st.text(max_size=80) | st.text(alphabet="{}[]:,-&*!|>'\"# \n\tab1%@\\", max_size=80), st.integers(0, 4_000))
def test_any_text_is_read_or_refused(folder: Path, text: str, at: int) -> None:
    """Any text, and any text in the midst of a good file, is read or refused."""
    good = json.dumps(FULL)
    _is_read(folder, text)
    _is_read(folder, good[:at] + text + good[at:])


def test_the_schema_takes_what_says_everything(folder: Path) -> None:
    """The file that says everything is read, and valid by the schema, which says what each key means."""
    Draft7Validator.check_schema(alerts_schema())
    assert [error.message for error in VALIDATOR.iter_errors(FULL)] == []
    assert _is_read(folder, json.dumps(FULL))
    said = alerts_schema_text()
    assert [
        name
        for shape in SECTIONS.values()
        for name, key in shape.items()
        if json.dumps(key.doc, ensure_ascii=False) not in said
    ] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {**FULL, "alerts": 2},
        {**FULL, "gathr": {}},
        {**FULL, "targets": {"chat": {"slack": {"url": "https://hooks.slack.com/x"}}}},
        {**FULL, "targets": {"chat": {"slack": {"url": {"env": "A", "file": "b"}}}}},
        {**FULL, "targets": {"chat": {}}},
        {**FULL, "routes": [{"match": {}}]},
        {**FULL, "routes": [{"to": ["chat"], "quiet": {"zone": "UTC", "days": ["monday"]}}]},
    ],
)
def test_the_schema_refuses_what_is_refused(wrong: dict[str, Any], folder: Path) -> None:
    """Mistakes of structure are seen by the schema as by the reading."""
    assert list(VALIDATOR.iter_errors(wrong))
    assert not _is_read(folder, json.dumps(wrong))


def test_the_published_schema_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    """The committed schema is that of the definition, and `usageaudit schema alerts` prints it."""
    assert PUBLISHED.read_text(encoding="utf-8") == alerts_schema_text()
    assert run(["schema", "alerts"]) == 0
    assert json.loads(capsys.readouterr().out) == alerts_schema()
