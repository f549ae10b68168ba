"""deploy/systemd: the units are ones that systemd takes, closed as far as it can tell, and call commands that exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import skip
from tests.deploy.deployed import DEPLOY, script, usageaudit
from tests.documents import BIN
from tests.strategies import envelope

if TYPE_CHECKING:
    from pathlib import Path

EVENT = {
    "operation": "chat",
    "model": {"provider": "openai", "name": "gpt-4o"},
    "actor": {"id": "u-1"},
    "application": {"name": "claims"},
}
UNITS = sorted((DEPLOY / "systemd").iterdir())
SERVICES = [unit for unit in UNITS if unit.suffix == ".service"]
MOST_EXPOSED = 1.5
"""Of the scale that `systemd-analyze security` has, from 0 to 10, the units stay below."""


@pytest.fixture
def units(tmp_path: Path) -> list[Path]:
    """Return copies of the units that call the command of this environment, the template with a name."""
    copies = []
    for unit in UNITS:
        copy = tmp_path / unit.name.replace("@", "@1")
        text = unit.read_text(encoding="utf-8").replace("/opt/usageaudit/bin/usageaudit", str(BIN / "usageaudit"))
        copy.write_text(text, encoding="utf-8")
        copies.append(copy)
    return copies


def _analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        skip("systemd-analyze is not on the PATH: apt-get install systemd")
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_systemd_takes_the_units(units: list[Path], tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing to say about them, and has about one with a mistake."""
    done = _analyze("verify", "--man=no", *map(str, units))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (tmp_path / "wrong.service").write_text("[Service]\nExecStart=relative/path\nProtectSystm=yes\n", encoding="utf-8")
    assert _analyze("verify", "--man=no", str(tmp_path / "wrong.service")).stderr != ""


def test_services_are_closed(units: list[Path]) -> None:
    """`systemd-analyze security` finds little that a service could do beyond its work."""
    for unit in (one for one in units if one.suffix == ".service"):
        found = re.search(
            r"exposure level for \S+: ([0-9.]+)", _analyze("security", "--offline=true", str(unit)).stdout
        )
        assert found is not None
        assert float(found[1]) <= MOST_EXPOSED


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.name)
def test_a_service_calls_a_command_with_settings_that_exist(unit: Path, tmp_path: Path) -> None:
    """What a service runs is a command, and its variables are settings that read the credentials."""
    text = unit.read_text(encoding="utf-8")
    secrets = tmp_path / "secrets"
    script("secrets.sh", str(secrets))
    loaded = dict(re.findall(r"(?m)^LoadCredential=(\w+):/etc/usageaudit/secrets/(\w+)$", text))
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    for name, secret in loaded.items():
        (credentials / name).write_text((secrets / secret).read_text(), encoding="utf-8")
    (line,) = re.findall(r"(?m)^Environment=(.*)$", text)
    environment = dict(one.split("=", 1) for one in line.replace("%d", str(credentials)).split())
    shown = usageaudit("config", "show", environment=environment)
    assert ("kafka:9092" in shown) == ("stream" in loaded)
    assert "clickhouse:9000" in shown
    (command,) = re.findall(r"(?m)^ExecStart=/opt/usageaudit/bin/usageaudit ((?:\w+ ?)+)", text)
    usageaudit(*command.split(), "--help")


def test_a_consumer_is_started_again_unless_somebody_has_to_act() -> None:
    """A server that is away at the start (exit code 3) is waited for; a mistake (exit code 2) is not tried for ever."""
    text = (DEPLOY / "systemd" / "usageaudit-consumer@.service").read_text(encoding="utf-8")
    assert re.findall(r"(?m)^Restart=(.*)$", text) == ["always"]
    assert re.findall(r"(?m)^RestartPreventExitStatus=(.*)$", text) == ["2"]
    assert re.findall(r"(?m)^StartLimitIntervalSec=(.*)$", text) == ["0"]


# prctl(2): what is writable never becomes executable, for this process and what it turns into. Linux 6.3 has it.
REFUSE_EXEC_GAIN = """
import ctypes, os, sys
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) != 0:
    sys.exit(77)
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_the_consumer_writes_no_code_into_memory(tmp_path: Path, clickhouse_database: str) -> None:
    """The consumer works under MemoryDenyWriteExecute, for which the kernel is asked here."""
    line = json.dumps(envelope(EVENT)) + "\n"
    (tmp_path / "events").write_text(line, encoding="utf-8")
    stream = f"embedded:{tmp_path / 'data'}"
    usageaudit("publish", str(tmp_path / "events"), "--stream", stream)
    arguments = ["consume", "--until-caught-up", "--stream", stream, "--store", clickhouse_database]
    done = subprocess.run(
        [sys.executable, "-c", REFUSE_EXEC_GAIN, BIN / "usageaudit", *arguments],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if done.returncode == 77:
        pytest.skip("this kernel has no PR_SET_MDWE")
    assert json.loads(done.stdout)["accepted"] == 1, done.stderr
