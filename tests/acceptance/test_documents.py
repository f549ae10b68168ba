"""The documents are true: each block of code is tried by some test, links lead somewhere, and paths exist."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.documents import (
    ROOT,
    Block,
    Reader,
    anchors,
    code_blocks,
    documents,
    inline_code,
    links,
    make_targets,
    name_of,
    verbs_of,
)
from tests.strategies import envelope
from tests.unit.policy.bundles import write
from usageaudit.history import FIGURES

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.kafka import Kafka

HERE = "tests/acceptance/test_documents.py"
PICTURE = "a picture"
TRIED_BY = {
    ("ARCHITECTURE.md", "indented"): PICTURE,
    ("CONTRIBUTING.md", ""): HERE,
    ("README.md", ""): "tests/acceptance/test_readme.py",
    ("README.md", "python"): "tests/acceptance/test_readme.py",
    ("README.md", "sh"): "tests/acceptance/test_readme.py",
    ("README.md", "yaml"): "tests/acceptance/test_readme.py",
    ("docs/alerts.md", "sh"): "tests/unit/alerts/config/test_page.py",
    ("docs/alerts.md", "yaml"): "tests/unit/alerts/config/test_page.py",
    ("docs/analytics.md", "sh"): HERE,
    ("docs/analytics.md", "sql"): "tests/integration/test_named_queries.py",
    ("docs/backup.md", "sh"): "tests/deploy/test_pages.py",
    ("docs/backup.md", "sql"): "tests/deploy/test_pages.py",
    ("docs/commands.md", ""): "tests/unit/cli/test_documentation.py",
    ("docs/deploying.md", ""): "tests/deploy/test_pages.py",
    ("docs/deploying.md", "sh"): "tests/deploy/test_pages.py",
    ("docs/history.md", "sh"): HERE,
    ("docs/history.md", "sql"): HERE,
    ("docs/kafka.md", ""): "tests/integration/test_kafka_topic.py",
    ("docs/metrics.md", "json"): "tests/integration/test_operating_process.py",
    ("docs/metrics.md", "sh"): "tests/integration/test_operating_process.py",
    ("docs/operating.md", ""): HERE,
    ("docs/packs.md", "sh"): "tests/acceptance/test_docs_packs.py",
    ("docs/packs.md", "yaml"): "tests/acceptance/test_docs_packs.py",
    ("docs/policies.md", ""): "tests/unit/policy/test_page.py",
    ("docs/policies.md", "indented"): HERE,
    ("docs/policies.md", "sh"): HERE,
    ("docs/policies.md", "yaml"): "tests/unit/policy/test_page.py",
    ("docs/policy-language.md", "cel"): "tests/unit/policy/language/test_documentation.py",
    ("docs/policy-language.md", "indented"): HERE,
    ("docs/publishing.md", "json"): "tests/acceptance/test_docs_publishing.py",
    ("docs/publishing.md", "python"): "tests/acceptance/test_docs_publishing.py",
    ("docs/replicated.md", ""): "tests/integration/test_replicated_documents.py",
    ("docs/replicated.md", "sql"): "tests/integration/test_replicated_documents.py",
    ("docs/replicated.md", "xml"): "tests/servers/cluster.py",
    ("docs/runbooks.md", ""): "tests/deploy/test_pages.py",
    ("docs/runbooks.md", "sh"): "tests/deploy/test_pages.py",
    ("docs/runbooks.md", "sql"): "tests/deploy/test_pages.py",
    ("docs/sizing.md", "sh"): "tests/deploy/test_sizing.py",
    ("docs/tour.md", "python"): "tests/acceptance/test_tour.py",
    ("docs/tour.md", "sh"): "tests/acceptance/test_tour.py",
    ("docs/tour.md", "yaml"): "tests/acceptance/test_tour.py",
    ("docs/upgrading.md", "sh"): "tests/evolution/test_documentation.py",
    ("docs/windows.md", ""): "tests/acceptance/test_docs_windows.py",
    ("docs/windows.md", "sh"): "tests/acceptance/test_docs_windows.py",
    ("docs/windows.md", "yaml"): "tests/acceptance/test_docs_windows.py",
    ("docs/webhooks.md", "json"): "tests/integration/alerts/test_web_page.py",
    ("docs/webhooks.md", "python"): "tests/integration/alerts/test_web_page.py",
    ("docs/webhooks.md", "sh"): "tests/integration/alerts/test_web_page.py",
    ("docs/webhooks.md", "yaml"): "tests/integration/alerts/test_web_page.py",
}
"""Which test tries the blocks of a document in a language."""

EVENT = envelope(
    {
        "operation": "chat",
        "model": {"provider": "openai", "name": "gpt-4o"},
        "actor": {"id": "u-1", "organization": "insurer"},
        "application": {"name": "claims-triage", "team": "claims"},
        "purpose": {"use_case": "summarization"},
        "cost": {"amount": "0.25", "currency": "USD"},
    },
    time="2026-05-01T12:00:00Z",
)
DOCUMENTS = pytest.mark.parametrize("document", documents(), ids=name_of)


def _only(document: str, language: str) -> Block:
    """Return the one block of a document in a language."""
    (block,) = (block for block in code_blocks(ROOT / document) if block.language == language)
    return block


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    """Return a reader with one event in `events.ndjson`."""
    (tmp_path / "events.ndjson").write_text(json.dumps(EVENT) + "\n", encoding="utf-8")
    return Reader(tmp_path)


def test_every_block_of_code_is_tried() -> None:
    """Each kind of block is in the list above, and the list names no other; a test that is named names the document."""
    found = {(block.document, block.language) for path in documents() for block in code_blocks(path)}
    assert found == set(TRIED_BY)
    for (document, _), test in TRIED_BY.items():
        if test != PICTURE:
            name = document.rpartition("/")[2]
            assert name in (ROOT / test).read_text(encoding="utf-8"), f"{test} says nothing of {document}"


def test_contributors_find_the_verbs() -> None:
    """The verbs that CONTRIBUTING.md explains are targets of the Makefile."""
    assert verbs_of(_only("CONTRIBUTING.md", "")) <= make_targets()


def test_the_questions_of_analysts_are_answered(reader: Reader) -> None:
    """What docs/analytics.md types is answered from a record with one event."""
    reader.types("usageaudit publish events.ndjson && usageaudit consume --until-caught-up")
    questions, cost, count, reference = (reader.types(line) for line in _only("docs/analytics.md", "sh").lines)
    assert '"name":"cost-by-team"' in questions
    assert '"application_team":"claims"' in cost
    assert count == '{"count()":1}\n'
    assert "### usage_events" in reference


def test_reviewers_can_ask_the_record_about_a_change(reader: Reader) -> None:
    """What docs/history.md types is answered from a record with one event; its figures are those that reports have."""
    reader.types("usageaudit publish events.ndjson && usageaudit consume --until-caught-up")
    reader.types("usageaudit policy init our-policies")
    against_record, against_pack, by_organization, affected, dry, done, findings = (
        reader.types(line) for line in _only("docs/history.md", "sh").lines
    )
    rows = [json.loads(line) for line in against_record.splitlines()]
    assert {figure.name for figure in FIGURES} <= set(rows[0])
    assert len(against_pack.splitlines()) > len(rows)
    assert by_organization.startswith("policy_id,organization,")
    assert json.loads(affected.splitlines()[0])["versions"]
    assert dry == done
    recorded = sum(json.loads(line)[effect] for line in done.splitlines() for effect in ("violations", "notices"))
    assert len(findings.splitlines()) == recorded
    [statement] = [block.text for block in code_blocks(ROOT / "docs/history.md") if block.language == "sql"]
    assert len(reader.types(f"usageaudit query {shlex.quote(statement)}").splitlines()) == recorded
    page = (ROOT / "docs/history.md").read_text(encoding="utf-8")
    assert [figure.name for figure in FIGURES if f"`{figure.name}`" not in page] == []


def test_authors_of_policies_can_type_what_is_shown(reader: Reader) -> None:
    """What docs/policies.md types makes a bundle that passes, explains an event, and prints a page."""
    written, check, tests, explained, page = (
        reader.types(line) for line in _only("docs/policies.md", "indented").lines
    )
    assert "our-policies/bundle.yaml" in written
    assert json.loads(check)["warnings"] == 0
    assert json.loads(tests)["failed"] == 0
    assert json.loads(explained)["event_id"] == EVENT["id"]
    assert page.startswith("# ")


def test_the_life_of_a_policy_can_be_typed(reader: Reader) -> None:
    """The four lines of docs/policies.md on changing a policy compare, lock, check and approve what `init` wrote."""
    reader.types("usageaudit policy init our-policies && cp -r our-policies old-policies")
    compare, lock, check, approve = _only("docs/policies.md", "sh").lines
    assert reader.types(compare) == ""
    assert reader.types(lock) == "our-policies/policy.lock\n"
    assert reader.types(check) == ""
    assert json.loads(reader.types(approve))["policy_id"] == "our-policies/no-facial-recognition"
    assert (reader.folder / "our-policies" / ".schema" / "policy.schema.json").is_file()


def test_the_error_that_is_shown_is_the_error(reader: Reader) -> None:
    """The message in docs/policy-language.md is what the command says of that mistake at that place."""
    shown = _only("docs/policy-language.md", "indented").text
    head = ["id: acme/face", "title: No faces", "severity: high", *["#"] * 8, "revisions:", "- version: 1"]
    policy = "\n".join([*head, '  when: actor.sectr == "law_enforcement"'])
    write(reader.folder, {"bundle.yaml": "name: acme", "policies/face.yaml": policy})
    assert shown in reader.types("usageaudit policy check . 2>&1 || test $? = 2")


def test_operators_can_keep_the_urls_in_files(
    reader: Reader, kafka: Kafka, topic: str, clickhouse_database: str
) -> None:
    """The lines for servers in docs/operating.md work with files that hold the two URLs."""
    secrets = reader.folder / "secrets"
    secrets.mkdir()
    stream = f"{kafka.url}?topic={topic}&group=group-{topic}"
    (secrets / "usageaudit-stream").write_text(stream, encoding="utf-8")
    (secrets / "usageaudit-store").write_text(clickhouse_database + "\n", encoding="utf-8")
    reader.types(f"usageaudit publish events.ndjson --stream {shlex.quote(stream)}")
    script = _only("docs/operating.md", "").text
    assert script.count("/run/secrets/") == 2
    script = script.replace("/run/secrets/", f"{secrets}/").replace("consume\n", "consume --until-caught-up\n")
    *checks, counts = reader.types(script).splitlines()
    assert json.loads(counts)["accepted"] == 1
    assert {json.loads(check)["check"] for check in checks} >= {"stream", "store"}


@DOCUMENTS
def test_links_lead_somewhere(document: Path) -> None:
    """Every relative link leads to a file or folder of the repository, and every anchor to a heading."""
    for link in links(document):
        if not re.match(r"[a-z]+:", link):
            path, _, anchor = link.partition("#")
            target = document.parent / path if path else document
            assert target.exists(), f"{name_of(document)} links to {link}, which does not exist"
            assert not anchor or anchor in anchors(target), f"{name_of(document)}: no heading for {link}"


@DOCUMENTS
def test_paths_that_are_named_exist(document: Path) -> None:
    """Every file of the three roots, the tests or the documents that is named in a sentence exists."""
    tops = ("producers/", "consumers/", "schemas/", "tests/", "docs/")
    named = [code for code in inline_code(document) if code.startswith(tops) and not re.search(r"[ *]", code)]
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_files_in_the_map_exist() -> None:
    """A file that the table of ARCHITECTURE.md names without a link lies in the folder that its row links to."""
    rows = re.findall(r"(?m)^\|.*\]\((\S+)\)(.*)\|$", (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"))
    folders = [(ROOT / path if path.endswith("/") else (ROOT / path).parent, rest) for path, rest in rows]
    named = [folder / name for folder, rest in folders for name in re.findall(r"`(\S+\.py)`", rest)]
    assert len(named) > 3
    assert [path for path in named if not path.exists()] == []


FOREIGN = re.compile(r"\.\./shared|/(?:work|home|root|Users)/\w|(?<![\w&/#])#\d+\b|\bissues? \d|\b(?:GH|gh)-\d")
"""Other folders of a machine, and numbers of a tracker."""


def test_no_file_speaks_of_other_places() -> None:
    """No file refers to a folder outside of the repository, to a path of one machine, or to a number of a tracker."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = {}
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        if path.is_file():
            found[name] = FOREIGN.findall(path.read_text(encoding="utf-8", errors="replace"))
    assert {name: places for name, places in found.items() if places} == {}
    assert FOREIGN.findall("see ../" + "shared/x, /ho" + "me/x, (#" + "12), issue " + "12") != []
