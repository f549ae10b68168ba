"""docs/tour.md: whoever types it block by block sees what it says."""

from __future__ import annotations

import re

import pytest

from tests.documents import ROOT, Block, Reader, code_blocks

TOUR = ROOT / "docs" / "tour.md"
POLICE = "conduct/us-police-facial-recognition"
CAMERAS = "conduct/live-facial-recognition-on-mobile-cameras"


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Type the whole page in an empty folder; return what each block of commands printed, by its text."""
    reader = Reader(tmp_path_factory.mktemp("tour"))
    return {block.text: printed for block in code_blocks(TOUR) if (printed := _typed(reader, block)) is not None}


def _typed(reader: Reader, block: Block) -> str | None:
    if block.language == "sh":
        return reader.types(block.text)
    reader.write(block)
    return None


def rows(printed: str, *first: str) -> list[list[str]]:
    """Return the cells of those lines of a table that begin with some words."""
    cells = [re.split(r" {2,}", line.strip()) for line in printed.splitlines()]
    return [row for row in cells if tuple(row[: len(first)]) == first]


def block(typed: dict[str, str], command: str) -> str:
    """Return what the one block printed that has a command."""
    (found,) = (printed for text, printed in typed.items() if command in text)
    return found


def test_before_the_change_one_customer_is_known(typed: dict[str, str]) -> None:
    """The old wording finds the county sheriff's twelve uses and nobody else's."""
    printed = block(typed, "usageaudit consume --until-caught-up --policies conduct")
    assert '"accepted":48' in printed
    assert rows(printed, "1", "county sheriff") == [["1", "county sheriff", "12"]]
    assert "federal agency" not in printed


def test_the_new_bundle_is_sound_and_differs(typed: dict[str, str]) -> None:
    """It passes check and all its tests, and diff names what the text of the page says has changed."""
    printed = block(typed, "usageaudit policy check next")
    assert '"warnings":0' in printed
    assert '"tests":9,"passed":9,"failed":0' in printed
    assert rows(printed, CAMERAS, "added", "policy")
    assert rows(printed, POLICE, "added", "revisions.2.when")
    assert "the two bundles differ" in printed


def test_the_back_test_shows_who_would_have_been_found(typed: dict[str, str]) -> None:
    """Seven uses since May of the federal agency and of the metro police; the gendarmerie's stay undecided."""
    printed = block(typed, "usageaudit policy backtest next --by organization")
    names = next(re.split(r" {2,}", line.strip()) for line in printed.splitlines() if "organization" in line)
    found = {
        row[1]: dict(zip(names, row, strict=False))
        for row in (*rows(printed, POLICE), *rows(printed, CAMERAS))
        if row[1] in ("federal agency", "metro police", "gendarmerie", "county sheriff")
    }
    assert found["federal agency"]["added"] == found["metro police"]["added"] == "7"
    assert found["gendarmerie"]["added"] == "0"
    assert found["gendarmerie"]["now_indeterminate"] == "7"
    assert found["county sheriff"]["unchanged"] == "12"


def test_the_wording_of_may_on_all_records(typed: dict[str, str]) -> None:
    """As of May the federal agency's uses of April count as well, and so does the report on who is affected."""
    as_of = block(typed, "usageaudit policy backtest next --as-of")
    assert [row[5:8] for row in rows(as_of, POLICE)] == [["12", "24", "12"]]
    affected = block(typed, "usageaudit report affected")
    assert [row[2:5] for row in rows(affected, POLICE, "federal agency")] == [["0", "12", "12"]]
    assert [row[2:5] for row in rows(affected, CAMERAS, "metro police")] == [["0", "12", "12"]]


def test_the_new_policy_begins_in_the_shadow(typed: dict[str, str]) -> None:
    """What is judged from then on carries the stage of each policy."""
    printed = block(typed, "usageaudit consume --until-caught-up --policies next")
    assert rows(printed, CAMERAS, "shadow", "metro police")
    assert rows(printed, POLICE, "enforce", "federal agency")


def test_what_the_months_between_meant_is_appended(typed: dict[str, str]) -> None:
    """Rejudging finds seven uses each of two customers, leaves seven of a third open, and finds nothing new again."""
    printed = block(typed, "usageaudit policy rejudge next --dry-run")
    found = {(row[1], row[2]): row[4] for row in rows(printed, "rejudged")}
    assert found == {("violation", POLICE): "7", ("violation", CAMERAS): "7", ("notice", CAMERAS): "7"}


def test_the_proof_is_kept(typed: dict[str, str]) -> None:
    """Who approved what and why is in the store, and the record passes verify."""
    printed = block(typed, "FROM policy_approvals")
    assert rows(printed, POLICE, "2", "C. Officer", "Board, 6 May 2024")
