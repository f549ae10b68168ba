"""deploy/Dockerfile: its instructions are parsed, and those that run something are run here, in other folders."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from tests.deploy.deployed import DEPLOY
from tests.documents import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECONDS = 280
TEXT = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")


def _instructions() -> list[tuple[str, str]]:
    joined = re.sub(r"\\\n\s*", "", TEXT)
    lines = (line.partition(" ") for line in joined.splitlines() if line and not line.startswith("#"))
    return [(word, rest) for word, _, rest in lines]


INSTRUCTIONS = _instructions()


def _last(word: str) -> str:
    return [rest for name, rest in INSTRUCTIONS if name == word][-1]


def test_the_image_is_closed() -> None:
    """The base is pinned to a version, what runs is not root, and what was needed to build is left behind."""
    bases = [rest.split()[0] for word, rest in INSTRUCTIONS if word == "FROM"]
    assert len(bases) == 2
    assert all(re.fullmatch(r"python:\d+\.\d+-slim-\w+", base) for base in bases)
    user, _, group = _last("USER").partition(":")
    assert int(user) >= 10_000
    assert int(group) >= 10_000
    last_stage = INSTRUCTIONS[[word for word, _ in INSTRUCTIONS].index("FROM", 1) :]
    assert [word for word, _ in last_stage if word in ("RUN", "ADD")] == []


def test_what_is_copied_is_there_and_not_ignored() -> None:
    """Every path that is copied from the repository exists, and the ignore file lets in these and no others."""
    copied = {
        name
        for word, rest in INSTRUCTIONS
        if word == "COPY" and not rest.startswith("--from")
        for name in rest.split()[:-1]
    }
    assert [name for name in copied if not (ROOT / name).exists()] == []
    ignore = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert {line[1:] for line in ignore if line.startswith("!")} == copied


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that stands for /opt/usageaudit, made by the RUN instructions.

    Dependencies come from this environment: that the wheel's extras are all it needs is tested elsewhere.
    """
    root = tmp_path_factory.mktemp("image")
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    commands = [rest for word, rest in INSTRUCTIONS if word == "RUN"]
    assert len(commands) == 4
    for command in commands[1:]:
        text = command.replace("/wheels", f"{root}/wheels").replace("/opt/usageaudit", f"{root}/usageaudit")
        text = re.sub(r"^python ", f"{sys.executable} ", text)
        added = {"PIP_NO_DEPS": "1"} if " pip install " in text else {}
        done = subprocess.run(
            ["/bin/sh", "-euc", text], cwd=ROOT, env={**environment, **added}, capture_output=True, text=True,
            timeout=SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    (packages,) = (root / "usageaudit" / "lib").glob("python*/site-packages")
    others = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "others.pth").write_text("\n".join(others) + "\n", encoding="utf-8")
    return root / "usageaudit"


def test_the_entry_point_works_where_nothing_can_be_written(installed: Path, tmp_path: Path) -> None:
    """ENTRYPOINT and CMD are a command of the installed wheel, and it runs in folders that nobody may write to."""
    (entry,), (command,) = json.loads(_last("ENTRYPOINT")), json.loads(_last("CMD"))
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o555)
    environment = {"PATH": f"{installed}/bin:/usr/bin:/bin", "HOME": str(home), "USAGEAUDIT_HTTP": "0.0.0.0:9464"}
    for arguments in (["--version"], [command, "--help"], ["config", "show"], ["policy", "check"]):
        done = subprocess.run(
            [installed / "bin" / entry, *arguments], cwd=home, env=environment, capture_output=True, text=True,
            timeout=SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    assert list(home.iterdir()) == []


@pytest.fixture
def answering() -> Iterator[tuple[int, list[int]]]:
    """Yield a port that answers GET with the last status of the list, which a test may change."""
    statuses = [200]

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(statuses[-1] if self.path == "/livez" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name of the method above
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server.server_address[1], statuses
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_health_check_asks_whether_the_service_lives(answering: tuple[int, list[int]]) -> None:
    """HEALTHCHECK ends with 0 where /livez answers 200, and otherwise with another code."""
    port, statuses = answering
    program, *arguments = json.loads(_last("HEALTHCHECK").partition("CMD ")[2])
    assert program == "python"

    def code(at: int) -> int:
        here = [argument.replace(":9464/", f":{at}/") for argument in arguments]
        done = subprocess.run([sys.executable, *here], capture_output=True, timeout=30, check=False)
        return done.returncode

    assert code(port) == 0
    statuses.append(503)
    assert code(port) != 0
    assert code(1) != 0
