"""docs/packs.md is true: its bundle works as it stands, and it names every pack, policy and claimed exception."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from tests.documents import ROOT, Reader, anchors, code_blocks
from tests.strategies import envelope
from usageaudit.policy import load_bundle
from usageaudit.policy.folders import shipped_packs

if TYPE_CHECKING:
    from pathlib import Path

PAGE = ROOT / "docs" / "packs.md"
EVENT = {
    "operation": "chat",
    "model": {"provider": "openai", "name": "gpt-4o"},
    "actor": {"id": "u-1", "jurisdiction": "DE"},
    "application": {"name": "claims-triage"},
    "purpose": {"use_case": "summarization"},
}


def _blocks(language: str) -> list[str]:
    return [block.text for block in code_blocks(PAGE) if block.language == language]


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    """Return a reader who wrote the bundle of the page, and has an event."""
    reader = Reader(tmp_path)
    for block in code_blocks(PAGE):
        if block.language == "yaml":
            reader.write(block)
    line = json.dumps(envelope(EVENT, time="2026-05-01T12:00:00Z"))
    (tmp_path / "events.ndjson").write_text(line + "\n", encoding="utf-8")
    return reader


def test_the_bundle_of_the_page_is_adopted_by_its_commands(reader: Reader) -> None:
    """The four files make a bundle without a doubt that passes all tests, and clears an event that declares its use."""
    (script,) = _blocks("sh")
    check, tests, explained, page = map(reader.types, script.splitlines())
    assert json.loads(check)["warnings"] == 0
    assert json.loads(tests)["failed"] == 0
    verdicts = {one["policy_id"]: one["verdict"] for one in json.loads(explained)["policies"]}
    assert len(verdicts) == sum(len(load_bundle([pack]).policies) for pack in shipped_packs())
    assert set(verdicts.values()) == {"ok", "not_applicable"}
    assert verdicts["hygiene/use-case-not-approved"] == "ok"
    assert page.startswith("# Policies: eu-ai-act-article-5")


def test_what_is_filled_in_holds(reader: Reader) -> None:
    """The lists, the registry and the overrides of the page change what the packs say as the page says it."""
    bundle = load_bundle([reader.folder / "acme"])
    assert bundle.lists["allowed_models"] == ("gpt-4-turbo", "gpt-4o", "mistral-large-latest")
    assert bundle.registry["claims-triage"].jurisdiction == "DE"
    missing = bundle.policy("hygiene/use-case-missing")
    emotions = bundle.policy("eu-ai-act-article-5/emotion-inference-at-work-and-school")
    assert missing is not None
    assert emotions is not None
    assert missing.stage == "shadow"
    assert [exception.id for exception in emotions.exceptions] == ["EX-4"]


def test_every_policy_of_every_pack_is_on_the_page() -> None:
    """Each pack has a section with a row for each of its policies, and the table counts them rightly."""
    text = PAGE.read_text(encoding="utf-8")
    for pack in shipped_packs():
        policies = load_bundle([pack]).all_policies
        assert pack in anchors(PAGE)
        section = text.partition(f"\n## {pack}\n")[2].partition("\n## ")[0]
        rows = re.findall(r"(?m)^\|(?: \([a-h]\) \|)? `([a-z-]+)` \|", section)
        assert sorted(rows) == sorted(policy.id.partition("/")[2] for policy in policies)
        assert re.search(rf"(?m)^\| \[`{pack}`\].*\| {len(policies)} \|$", text)


def test_the_exceptions_that_can_be_claimed_are_on_the_page() -> None:
    """The table of Article 5 names every value that the label of an exception may have, and lists that exist."""
    text = PAGE.read_text(encoding="utf-8")
    lists = load_bundle(sorted(shipped_packs())).lists
    claimed = {word for name, words in lists.items() if name.endswith(("_exceptions", "_objectives")) for word in words}
    assert {word for word in claimed if f"`{word}`" not in text} == set()
    assert set(re.findall(r"`lists\.(\w+)`", text)) <= set(lists)
