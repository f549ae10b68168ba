"""docs/deploying.md, docs/runbooks.md and docs/backup.md are true: their SQL is run, and so are their commands.

What needs a container or a running systemd is compared with the files that it names.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.deploy.deployed import DEPLOY, usageaudit
from tests.documents import ROOT, Block, Reader, code_blocks
from tests.ledger_rows import EMBEDDED, LATEST, SERVER, insert, migrated_store
from tests.ledger_world import BURST, GAP, WORLD
from tests.strategies import envelope
from usageaudit.cli.app import root_command
from usageaudit.errors import QueryRefused
from usageaudit.stores.address import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.deploy.deployed import DeployedClickHouse
    from tests.servers.kafka import Kafka
    from usageaudit.stores.port import Store

EVENT = {
    "operation": "chat",
    "model": {"provider": "openai", "name": "gpt-4o"},
    "actor": {"id": "u-1"},
    "application": {"name": "claims"},
}
SERVICES = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]
COMPOSE = "docker compose --file deploy/compose.yaml "


def _blocks(page: str, language: str) -> list[Block]:
    return [block for block in code_blocks(ROOT / "docs" / page) if block.language == language]


def _events(path: Path, first: int, count: int) -> Path:
    lines = [json.dumps(envelope(EVENT, id=f"e-{number}")) for number in range(first, first + count)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module", params=[EMBEDDED, SERVER, LATEST])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Yield a store with rows of every kind."""
    with migrated_store(request, tmp_path_factory) as store:
        insert(store, WORLD)
        insert(store, [BURST, GAP], "findings_log")
        taken = "'stream-1', 'usage-events', 0, 1, 'somebody', now64(3)"
        store.execute(f"INSERT INTO fence (stream, topic, partition, epoch, owner, taken_at) SELECT {taken}")
        store.execute("INSERT INTO window_progress (rule, policy_id, policy_version, epoch) SELECT 'r', 'p/a', 1, 1")
        yield store


@pytest.mark.parametrize("block", _blocks("runbooks.md", "sql"), ids=str)
def test_questions_of_the_runbooks_are_answered(world: Store, block: Block) -> None:
    """Each SQL statement of docs/runbooks.md runs on both versions of the engine, and finds what is there."""
    rows = world.query(block.text).rows
    assert rows or "system.merges" in block.text or "system.errors" in block.text


def test_commands_of_the_runbooks_can_be_typed(tmp_path: Path) -> None:
    """Each line of a shell in docs/runbooks.md works on a record with an event, a refused record, and a spool."""
    reader = Reader(tmp_path)
    _events(tmp_path / "events.ndjson", 0, 1)
    (tmp_path / "bad").write_text("{}\n", encoding="utf-8")
    (tmp_path / "spool").mkdir()
    reader.types(
        "usageaudit publish events.ndjson && usageaudit publish --raw bad && usageaudit consume --until-caught-up"
    )
    lines = [line for block in _blocks("runbooks.md", "sh") for line in block.lines]
    assert len(lines) > 8
    for line in dict.fromkeys(lines):
        reader.types(f"export USAGEAUDIT_SPOOL=spool; {line}")


def test_secrets_are_drawn_as_shown(tmp_path: Path) -> None:
    """The one line of a shell in docs/deploying.md fills the folder that the compose file reads."""
    shutil.copytree(DEPLOY, tmp_path / "deploy", ignore=shutil.ignore_patterns("secrets"))
    (block,) = _blocks("deploying.md", "sh")
    Reader(tmp_path).types(block.text)
    assert (tmp_path / "deploy" / "secrets" / "store_ingest").is_file()


@pytest.mark.parametrize("block", [*_blocks("deploying.md", ""), *_blocks("runbooks.md", "")], ids=str)
def test_what_can_not_be_run_here_names_what_exists(block: Block) -> None:
    """Lines for containers and systemd name services, units, scripts and commands that are there."""
    for line in block.lines:
        words = [word for word in shlex.split(line) if not re.match(r"[A-Z_]+=", word)]
        if line.startswith(COMPOSE):
            _check_compose(shlex.split(line.removeprefix(COMPOSE)))
        elif words[0] == "systemctl":
            for unit in (word for word in words[2:] if word.startswith("usageaudit")):
                name = re.sub(r"@[^.]*", "@", unit) if "@" in unit else unit
                name = name if name.endswith((".timer", ".service")) else f"{name}.service"
                assert (DEPLOY / "systemd" / name).is_file(), unit
        elif words[0].startswith("deploy/"):
            assert (ROOT / words[0]).is_file()
        elif words[0] == "/opt/usageaudit/bin/usageaudit":
            usageaudit(words[1], "--help")
        else:
            assert words[0] in {"python3", "/opt/usageaudit/bin/pip", "install", "echo"}, line


def _check_compose(words: list[str]) -> None:
    verb, *rest = words
    assert verb in {"build", "up", "ps", "run", "logs", "restart"}
    names = [word for word in rest if not word.startswith("--") and not word.isdigit() and "=" not in word]
    if verb == "run":
        service, command = names
        assert command in root_command().commands  # type: ignore[attr-defined]
        names = [service]
    assert set(names) <= set(SERVICES), words


def test_a_restored_store_reads_on_from_its_end(
    store: DeployedClickHouse, kafka: Kafka, topic: str, tmp_path: Path
) -> None:
    """The statements of docs/backup.md bring yesterday's store back, and the stream brings it up to today."""
    stream = f"{kafka.url}?topic={topic}&group=group-{topic}"
    consume = ("consume", "--until-caught-up", "--stream", stream, "--store", store.login("ingest"))

    def publish_and_record(first: int, count: int) -> None:
        usageaudit("publish", str(_events(tmp_path / "events", first, count)), "--stream", stream)
        assert json.loads(usageaudit(*consume))["accepted"] == count

    full, night, listing, drop, restore = (block.text for block in _blocks("backup.md", "sql"))
    with store.client("operate") as operator:
        publish_and_record(0, 50)
        operator.execute(full)
        publish_and_record(50, 30)
        operator.execute(night)
        assert {row[1] for row in operator.execute(listing)} == {"BACKUP_CREATED"}
        publish_and_record(80, 20)  # after the last backup, and acknowledged to the stream
    with store.client("admin", "default") as admin:
        admin.execute(drop)
        admin.execute(restore)
        assert admin.execute("SELECT count() FROM usageaudit.ledger") == [(80,)]
    store.apply("users")
    store.apply("views")
    assert json.loads(usageaudit(*consume))["accepted"] == 20
    rows = usageaudit("verify", "--stream", stream, "--store", store.login("operate")).splitlines()
    assert sum(json.loads(row)["consumed"] for row in rows) == 100
    reader = open_store(store.login("read"))
    assert reader.query("SELECT count() FROM usage_events").rows == [(100,)]
    with pytest.raises(QueryRefused):
        reader.query("SELECT count() FROM ledger")
    reader.close()


def test_the_embedded_folder_is_restored_as_shown(tmp_path: Path) -> None:
    """The lines of docs/backup.md for the embedded folder keep what came to the stream after the copy."""
    reader = Reader(tmp_path)
    copy, back = _blocks("backup.md", "sh")[-2:]
    _events(tmp_path / "monday.ndjson", 0, 5)
    _events(tmp_path / "tuesday.ndjson", 5, 3)
    record = "usageaudit consume --until-caught-up"
    reader.types(f"usageaudit publish monday.ndjson && {record}")
    reader.types(copy.text)
    reader.types(f"usageaudit publish tuesday.ndjson && {record}")
    said = reader.types(back.text)
    assert '"accepted":3' in said
    assert json.loads(said.splitlines()[-1])["consumed"] == 8
