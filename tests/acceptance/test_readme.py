"""The README works as it is written: every block of it is run, in its order, in one folder."""

from __future__ import annotations

import json
import re
import shlex
from importlib.metadata import metadata
from typing import TYPE_CHECKING

from tests.documents import ROOT, Block, Reader, code_blocks, make_targets, verbs_of
from tests.strategies import envelope

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.kafka import Kafka

BLOCKS = code_blocks(ROOT / "README.md")
PICTURE = " services "
VERBS = "make "
SERVERS = "pip install 'usageaudit[consumer]'\n"

SERVE = """
from fastapi.testclient import TestClient
import service

letter = {"text": "Dear insurer, the hail of last night broke two windows of my car."}
print(TestClient(service.app).post("/summaries", json=letter).raise_for_status().json())
"""
USED = r'{"application_name":"claims-triage","model_name":"gpt-4-turbo","uses":1}\n'
ONE = r'{"consumed":1,"accepted":1,"duplicates":0,"rejected":0}\n'
ANSWERS = {
    "usageaudit consume --until-caught-up": ONE,
    'usageaudit query "SELECT application_name, model_name, count() AS uses FROM usage_events GROUP BY ALL"': USED,
    "usageaudit query violations-by-policy": "",
    "usageaudit policy check acme": r'{"bundle":"acme",.*"policies":7,.*"warnings":0}\n',
    "usageaudit policy test acme": r'{"bundle":"acme",.*"failed":0}\n',
    "usageaudit consume --policies acme --until-caught-up": ONE,
    "usageaudit query --list": r'{"name":"affected-by-policy".*{"name":"violations-by-policy".*',
    "usageaudit query violations-by-policy --format table": r"week +policy_id .* acme/people-in-pictures +high .*",
    'usageaudit query "SELECT day, application_name, sum(input_tokens) AS tokens FROM usage_daily '
    'GROUP BY ALL ORDER BY day"': r'.*{"day":"20\d\d-\d\d-\d\d","application_name":"claims-triage","tokens":812}\n',
    'usageaudit query "SELECT * FROM violations WHERE actor_organization = {who:String}" --param who=insurer': (
        r'{.*"policy_id":"acme/people-in-pictures",.*}\n'
    ),
}
"""What each command of the README prints, as a regular expression."""

PHOTO = envelope(
    {
        "operation": "chat",
        "model": {"provider": "openai", "name": "gpt-4o"},
        "actor": {"id": "u-1", "organization": "insurer"},
        "application": {"name": "badge-desk"},
        "input": {"modalities": ["image"]},
        "output": {"inferred_attributes": ["gender"]},
    }
)
MEANWHILE = {"usageaudit consume --policies acme --until-caught-up": PHOTO}
"""What services publish before a command is typed."""


def _starting(text: str) -> list[Block]:
    return [block for block in BLOCKS if not block.language and block.text.startswith(text)]


def _serve(reader: Reader, block: Block) -> None:
    """Keep the block as a service, and call it once in a process of its own, where no warning is allowed."""
    (reader.folder / "service.py").write_text(block.text, encoding="utf-8")
    said = reader.types(f"python -W error -c {shlex.quote(SERVE)}")
    assert said == "{'summary': 'Dear insurer, the hail of last night bro'}\n"


def _type(reader: Reader, block: Block) -> None:
    for line in block.lines:
        if line in MEANWHILE:
            reader.types("usageaudit publish -", text=json.dumps(MEANWHILE[line]))
        printed = reader.types(line)
        assert re.fullmatch(ANSWERS[line], printed, re.DOTALL), f"{block}: {line}\n{printed}"


def test_a_reader_can_follow_it(tmp_path: Path) -> None:
    """Service, policy and questions work as shown, each command answers, and the policy finds its violation."""
    does = {"python": _serve, "yaml": Reader.write, "sh": _type}
    reader = Reader(tmp_path)
    for block in BLOCKS:
        if block.language:
            does[block.language](reader, block)


def test_the_same_program_works_on_servers(kafka: Kafka, topic: str, clickhouse_database: str, tmp_path: Path) -> None:
    """With nothing but the two URLs changed, the doctor finds nothing wrong and the consumer records."""
    (block,) = _starting(SERVERS)
    stream = f"{kafka.url}?topic={topic}&group=group-{topic}"
    reader = Reader(tmp_path, {"USAGEAUDIT_STREAM": stream})
    reader.types("usageaudit publish -", text=json.dumps(PHOTO))
    script = block.text.removeprefix(SERVERS)
    for shown, real in (
        ("kafka://localhost:9092", shlex.quote(stream)),
        ("clickhouse://default@localhost:9000/default", shlex.quote(clickhouse_database)),
        ("usageaudit consume\n", "usageaudit consume --until-caught-up\n"),
    ):
        assert script.count(shown) == 1, shown
        script = script.replace(shown, real)
    *checks, counts = reader.types(script).splitlines(keepends=True)
    assert re.fullmatch(ONE, counts)
    assert {json.loads(check)["check"] for check in checks} >= {"stream", "store", "migrations"}


def test_what_it_installs_is_an_extra() -> None:
    """The extra that the README tells to install exists."""
    assert "consumer" in (metadata("usageaudit").get_all("Provides-Extra") or ())


def test_its_verbs_are_those_of_the_makefile() -> None:
    """Every `make` line that is shown names a target."""
    (block,) = _starting(VERBS)
    assert verbs_of(block) <= make_targets()


def test_every_block_is_tried() -> None:
    """A block without a language is the picture, the two verbs or the lines for servers; others are run."""
    unlabelled = [block for block in BLOCKS if not block.language]
    assert unlabelled == [*_starting(PICTURE), *_starting(VERBS), *_starting(SERVERS)]
