"""The table of commands: what is imported when, what help says, and how errors end."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import usageaudit.cli.run as running
from usageaudit.cli.app import COMMANDS, load, root_command
from usageaudit.cli.run import run
from usageaudit.errors import (
    BundleError,
    ConfigurationError,
    NotAcknowledged,
    QueryError,
    QueryRefused,
    StoreUnavailable,
    StreamUnavailable,
)

HEAVY = {"chdb", "clickhouse_driver", "kafka", "pydantic", "pydantic_settings", "rich", "yaml", "re2", "orjson"}


def _leaves(name: str) -> list[tuple[str, Any]]:
    """Return the commands below a name, with the words that call them."""
    command: Any = load(name)
    inner = getattr(command, "commands", None)
    return [(f"{name} {key}", one) for key, one in inner.items()] if inner else [(name, command)]


LEAVES = [leaf for name in COMMANDS for leaf in _leaves(name)]


@pytest.mark.parametrize("arguments", ["--help", "--version"])
def test_the_table_of_commands_imports_none_of_them(arguments: str) -> None:
    """`usageaudit --help` answers without an engine, a client or a library that only some commands need."""
    code = f"import sys; from usageaudit.cli.run import run; run(['{arguments}']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stderr.split()}
    assert loaded & HEAVY == set()


def test_without_the_command_line_installed_it_says_what_to_install() -> None:
    """An installation for publishing only answers `usageaudit` with the one line that helps."""
    code = "import sys; sys.modules['typer'] = None; from usageaudit.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: the command line is not installed: pip install 'usageaudit[cli]'\n"


def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A command whose library is not installed says which extra brings it."""
    monkeypatch.setitem(sys.modules, "yaml", None)
    monkeypatch.delitem(sys.modules, "usageaudit.demo.scenarios", raising=False)

    def fail(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("No module named 'clickhouse_driver'", name="clickhouse_driver.errors")

    monkeypatch.setattr(running, "root_command", lambda: type("C", (), {"main": staticmethod(fail)}))
    assert run([]) == 2
    assert capsys.readouterr().err == (
        "error: clickhouse_driver.errors is not installed: pip install 'usageaudit[consumer]'\n"
    )


@pytest.mark.parametrize("name", list(COMMANDS))
def test_summaries_are_the_first_lines_of_the_commands(name: str) -> None:
    """What the table says of a command is what its own help begins with."""
    command: Any = load(name)
    assert command.help.splitlines()[0] == COMMANDS[name].summary


@pytest.mark.parametrize(("words", "command"), LEAVES)
def test_every_command_shows_an_example_that_calls_it(words: str, command: Any) -> None:
    """The help of each command ends in examples, and the first of them is a call of that command."""
    assert command.epilog, words
    examples = command.epilog.replace("\b", "").split("Examples:\n")[1].splitlines()
    assert any(f"usageaudit {words}" in example for example in examples)


@pytest.mark.parametrize(("words", "command"), LEAVES)
def test_every_option_says_what_it_does(words: str, command: Any) -> None:
    """No option of any command is without help."""
    assert [one.name for one in command.params if one.param_type_name == "option" and not one.help] == [], words


@pytest.mark.parametrize(("words", "command"), LEAVES)
def test_every_command_takes_the_common_options(words: str, command: Any) -> None:
    """--config and --verbose may stand behind any command."""
    assert {"config", "verbose"} <= {one.name for one in command.params}, words


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError("x"), 2),
        (BundleError("x"), 2),
        (QueryError("x"), 2),
        (QueryRefused("x"), 2),
        (StreamUnavailable("x"), 3),
        (StoreUnavailable("x"), 3),
        (NotAcknowledged("x"), 1),
    ],
)
def test_errors_become_one_line_and_an_exit_code(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each kind of error ends with its own exit code, one line on stderr and nothing on stdout."""
    _failing(monkeypatch, error)
    assert run([]) == code
    assert capsys.readouterr() == ("", "error: x\n")


def test_interruption_is_quiet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C ends with 130 and says nothing."""
    _failing(monkeypatch, KeyboardInterrupt())
    assert run([]) == 130
    assert capsys.readouterr() == ("", "")


def test_bugs_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that is not a user's is raised, since its traceback is what a maintainer needs."""
    _failing(monkeypatch, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        run([])


def test_error_messages_can_not_drive_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What an error quotes from outside is printed with its control characters escaped."""
    _failing(monkeypatch, QueryError("near \x1b[2J"))
    run([])
    assert capsys.readouterr().err == "error: near \\x1b[2J\n"


def _failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(running, "root_command", lambda: type("Command", (), {"main": staticmethod(fail)}))


@pytest.mark.parametrize("arguments", [["quer"], ["query", "--nope"], ["--nope"], ["schema"], [], ["query"]])
def test_wrong_usage_ends_with_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong usage is exit code 2, said on stderr."""
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err


def test_misspelt_command_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    """A command that nearly exists is suggested, in one line."""
    run(["consum"])
    assert (
        capsys.readouterr().err
        == "error: No such command 'consum'. Did you mean 'consume'? (see 'usageaudit --help')\n"
    )


def test_verbose_says_the_cause(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --verbose, before or behind the command, the causes follow the error."""
    monkeypatch.chdir(tmp_path)
    arguments = ["doctor", "--config", "absent.toml"]
    assert run(arguments) == 2
    plain = capsys.readouterr().err
    assert plain.count("\n") == 1
    wrong = ["config", "show", "--verbose", "--config", "absent.toml"]
    assert run(wrong) == 2
    assert capsys.readouterr().err.startswith(plain)


def test_config_show_masks_secrets_and_names_origins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is in force is printed with where it came from, without passwords."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("USAGEAUDIT_STORE", "clickhouse://audit:sesame@host:9000/usageaudit")
    assert run(["config", "show", "--format", "ndjson"]) == 0
    out = capsys.readouterr().out
    assert "sesame" not in out
    (row,) = [one for one in map(json.loads, out.splitlines()) if one["setting"] == "store"]
    assert row == {
        "setting": "store",
        "value": "clickhouse://audit:***@host:9000/usageaudit",
        "from": "USAGEAUDIT_STORE",
    }


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """--version prints name and version."""
    assert run(["--version"]) == 0
    assert re.fullmatch(r"usageaudit \d+\.\d+\.\d+\S*\n", capsys.readouterr().out)


def test_the_root_lists_the_table() -> None:
    """Every command of the table is offered, in its order."""
    root: Any = root_command()
    assert list(root.commands) == list(COMMANDS)


@pytest.mark.parametrize(
    ("redirection", "arguments", "said"),
    [
        ("<&-", ["publish", "-"], "error: standard input is closed"),
        ("<&-", ["query", "-"], "error: standard input is closed"),
        (">&-", ["query", "SELECT 1"], "error: standard output is closed"),
        ("2>&-", ["publish", "absent.ndjson"], ""),
    ],
)
def test_closed_standard_streams(redirection: str, arguments: list[str], said: str, tmp_path: Path) -> None:
    """A standard stream that is needed and was closed is wrong usage, said in one line."""
    command = str(Path(sys.executable).with_name("usageaudit"))
    shell = ["sh", "-c", f'exec "$@" {redirection}', "sh", command, *arguments]
    done = subprocess.run(shell, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == bool(said)
