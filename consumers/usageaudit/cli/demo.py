"""`usageaudit demo`."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from usageaudit.cli.output import say
from usageaudit.cli.progress import progress
from usageaudit.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from rich.console import Console

POLICIES = ("azure-openai-code-of-conduct",)
WIDEST = 110


def demo(
    data: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder to use; it has to be empty, or made by the demo.")
    ] = Path("usageaudit-demo"),
    keep: Annotated[bool, typer.Option("--keep", help="Keep what an earlier run recorded, and publish again.")] = False,
) -> None:
    """Show everything on a simulated week: nothing else to start.

    Publishes the scenarios of the code of conduct and a week of an organisation, about 31,000 uses of models, judges
    and records them, shows what was found and says what to type next. Prices are illustrative.
    """
    from usageaudit.cli.access import hold
    from usageaudit.cli.logs import configure_logging
    from usageaudit.demo import running
    from usageaudit.demo.alerting import tell
    from usageaudit.demo.folder import prepare
    from usageaudit.demo.showing import show, show_alerts, show_next

    configure_logging("warning", "auto")
    began = time.monotonic()
    _refuse_while_served(data)
    prepare(data, keep=keep)
    console = _console()
    console.print(
        f"The demonstration runs in [bold]{data}[/bold]: an embedded stream and store, nothing else is started."
    )
    with _progress("publishing") as advance:
        published = running.publish(data, advance)
    store = hold(f"embedded:{data}")
    try:
        with _progress("judging and recording") as advance:
            running.consume(data, store, POLICIES, advance)
        show(console, store, published, running.policies_changed(POLICIES))
        show_alerts(console, tell(store, data, POLICIES))
        show_next(console, store, data)
    finally:
        store.close()
    console.print(f"\nDone in {time.monotonic() - began:.0f} s.", style="dim")


def _refuse_while_served(folder: Path) -> None:
    """Raise ConfigurationError where a service runs on the folder, which would lose its data under its feet."""
    from usageaudit.cli.remote import connect

    if folder.is_dir() and (remote := connect(folder)) is not None:
        remote.close()
        raise ConfigurationError(f"a usageaudit service runs on {folder}: stop it, or name another folder with --data")


def _console() -> Console:
    """Return where the report goes: as wide as the terminal within reason, 80 columns where there is none."""
    from rich.console import Console

    console = Console(highlight=False)
    console.width = min(console.width, WIDEST) if console.is_terminal or os.environ.get("COLUMNS") else 80
    return console


def _progress(what: str) -> AbstractContextManager[Callable[[int, int], None]]:
    """Show on a terminal how far it is; otherwise say on stderr what is being done."""
    if not sys.stderr.isatty():
        say(f"{what} …")
    return progress(what)
