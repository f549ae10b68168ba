"""docs/upgrading.md is true: its commands work, and its checklist names what there is to do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.documents import ROOT, Reader, code_blocks
from tests.evolution.versions import EDITS
from tests.strategies import MINIMAL, envelope
from usageaudit.events.fields import EVENT_FIELDS
from usageaudit.ledger.columns import LISTS

if TYPE_CHECKING:
    from pathlib import Path

PAGE = ROOT / "docs" / "upgrading.md"
BITS = ["input.modalities", "output.modalities", "output.inferred_attributes", "outcome.finish_reasons"]
BITS += ["outcome.guardrails", "content.signals", "tools"]
MEMBERS = {
    "outcome.guardrails": ["name", "action", "categories"],
    "content.signals": ["category", "score", "detector", "version"],
}


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    """Return a reader with an event that has a field which is not known yet."""
    event = envelope({**MINIMAL, "purpose": {"project": "apollo"}})
    (tmp_path / "events.ndjson").write_text(json.dumps(event) + "\n", encoding="utf-8")
    return Reader(tmp_path)


def test_the_commands_of_an_upgrade_work(reader: Reader) -> None:
    """What docs/upgrading.md types checks, migrates and looks at a store, and asks the bytes for a new field."""
    reader.types("usageaudit publish events.ndjson && usageaudit consume --until-caught-up")
    upgrade, question = (block for block in code_blocks(PAGE) if block.language == "sh")
    verified, *others = reader.types(upgrade.text).splitlines()
    assert json.loads(verified)["consumed"] == 1
    assert {json.loads(line)["check"]: json.loads(line)["status"] for line in others}["migrations"] == "ok"
    assert json.loads(reader.types(question.text)) == {"project": "apollo", "events": 1}


def test_the_checklist_names_what_is_edited() -> None:
    """Each file that the test of a new field edits is one of the checklist."""
    page = PAGE.read_text(encoding="utf-8")
    assert [file for file, _, _ in EDITS if f"`{file}`" not in page] == []


def test_lists_keep_their_bits_and_members() -> None:
    """Rows that are there tell lists apart by their bits, and objects in lists by arrays of one length."""
    assert [field.name for field in LISTS][: len(BITS)] == BITS, "a new list goes to the end of _BITS"
    members = {field.name: [member.name for member in field.members] for field in EVENT_FIELDS if field.members}
    assert {name: members[name] for name in MEMBERS} == MEMBERS
