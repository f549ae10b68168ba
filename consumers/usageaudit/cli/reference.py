"""The reference of commands and settings, as Markdown, made from the definitions.

`python -m usageaudit.cli.reference` writes it into docs/commands.md; a test fails where that is out of date.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from usageaudit.cli.app import COMMANDS, load, root_command
from usageaudit.cli.settings import PREFIX, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADING = "## Commands"
_WIDTH = 100


def reference() -> str:
    """Return the help of every command, and every setting with its default, as two sections of Markdown."""
    return "\n".join((*_commands(), *_settings()))


def _commands() -> Iterator[str]:
    yield f"{HEADING}\n"
    root: Any = root_command()
    with root.make_context("usageaudit", [], resilient_parsing=True) as context:
        yield from _block("usageaudit", root, context)
        for name in COMMANDS:
            yield from _blocks(f"usageaudit {name}", name, load(name), context)


def _blocks(words: str, name: str, command: Any, parent: Any) -> Iterator[str]:
    with command.make_context(name, [], parent=parent, resilient_parsing=True) as context:
        yield from _block(words, command, context)
        for inner, one in getattr(command, "commands", {}).items():
            yield from _blocks(f"{words} {inner}", inner, one, context)


def _block(words: str, command: Any, context: Any) -> Iterator[str]:
    context.terminal_width = context.max_content_width = _WIDTH
    help_text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
    yield f"### {words}\n"
    yield f"```\n{help_text}\n```\n"


def _settings() -> Iterator[str]:
    yield "## Settings\n"
    yield "| usageaudit.toml | environment | default | meaning |\n|---|---|---|---|"
    for name, info in Settings.model_fields.items():
        default = ", ".join(info.default) if isinstance(info.default, tuple) else info.default
        yield f"| `{name}` | `{PREFIX}{name.upper()}` | `{default}` | {info.description} |"
    yield ""


def main() -> None:
    """Write the reference anew below the introduction of docs/commands.md, in the folder that holds `docs`."""
    page = Path("docs/commands.md")
    introduction = page.read_text(encoding="utf-8").partition(f"\n{HEADING}\n")[0]
    page.write_text(f"{introduction}\n{reference()}", encoding="utf-8")


if __name__ == "__main__":
    main()
