"""Runs one command line: maps errors to one line on stderr and to the exit code."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from usageaudit.cli.app import Invocation, root_command
from usageaudit.cli.text import printable
from usageaudit.errors import (
    BundleError,
    ConfigurationError,
    QueryError,
    Unavailable,
    UsageAuditError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

FOUND_A_PROBLEM = 1
WRONG_USAGE = 2
OUT_OF_REACH = 3
INTERRUPTED = 130

EXTRAS = {
    "chdb": "embedded",
    "prometheus_client": "cli",
    "clickhouse_driver": "consumer",
    "pydantic_settings": "cli",
    "rich": "cli",
    "structlog": "cli",
    "yaml": "cli",
    "re2": "cli",
}
"""Which extra of the package brings a module."""


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code; every error that is a user's is one line on stderr."""
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  for as long as the process lives
    if closed := _closed(arguments):
        _say(f"error: {closed}")
        return WRONG_USAGE
    invocation = Invocation()
    try:
        code = root_command().main(list(arguments), prog_name="usageaudit", standalone_mode=False, obj=invocation)
        sys.stdout.flush()
    except typer.TyperException as error:
        return _usage_error(error)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        return _output_closed()
    except (UsageAuditError, ModuleNotFoundError) as error:
        if isinstance(error, ModuleNotFoundError) and _extra_of(error) is None:
            raise
        return _report(error, verbose=invocation.verbose)
    return code if isinstance(code, int) else 0


def _closed(arguments: Sequence[str]) -> str | None:
    """Say which standard stream the command line needs and was started without, as by `<&-` in a shell."""
    if sys.stdout is None:
        return "standard output is closed: open it, or send it to /dev/null where nobody reads it"
    if sys.stdin is None and "-" in arguments:
        return "standard input is closed, and - reads it: open it, or name a file"
    return None


def exit_code(error: Exception) -> int:
    """Return the exit code that an error ends the process with."""
    if isinstance(error, Unavailable):
        return OUT_OF_REACH
    if isinstance(error, ConfigurationError | BundleError | QueryError | ModuleNotFoundError):
        return WRONG_USAGE
    return FOUND_A_PROBLEM


def _report(error: Exception, *, verbose: bool) -> int:
    extra = _extra_of(error)
    message = str(error) if extra is None else f"{error.name} is not installed: pip install 'usageaudit[{extra}]'"  # type: ignore[attr-defined]
    _say(f"error: {message}")
    cause = _cause(error)
    while verbose and cause is not None:
        _say(f"  caused by {type(cause).__name__}: {cause}")
        cause = _cause(cause)
    return exit_code(error)


def _cause(error: BaseException) -> BaseException | None:
    return error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _extra_of(error: Exception) -> str | None:
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return None
    return EXTRAS.get(error.name.partition(".")[0])


def _usage_error(error: typer.TyperException) -> int:
    """Say what is wrong with the command line in one line; a command that needs a subcommand shows its help."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        _say(error.format_message())
        return WRONG_USAGE
    where = f" (see '{context.command_path} --help')" if context is not None else ""
    _say(f"error: {error.format_message()}{where}")
    return WRONG_USAGE


def _output_closed() -> int:
    """Leave quietly when the reader of our output has gone, such as `head`; nothing may write to it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + 13


def _say(text: str) -> None:
    sys.stderr.write(printable(text, keep="\n") + "\n")
