"""`usageaudit config show`."""

from __future__ import annotations

import typer

from usageaudit.cli.examples import examples
from usageaudit.cli.output import FormatOption, print_rows

config_app = typer.Typer(help="Show the settings in force.", no_args_is_help=True)


@config_app.callback()
def _config() -> None:
    """Show the settings in force."""


@config_app.command("show", epilog=examples("usageaudit config show", "usageaudit config show --format json"))
def show(context: typer.Context, format: FormatOption = None) -> None:  # noqa: A002
    """Print every setting, its value and where that came from; secrets are masked."""
    from usageaudit.cli.masking import masked
    from usageaudit.cli.settings import Settings, load

    loaded = load(getattr(context.obj, "config", None))
    rows = [
        (name, masked(getattr(loaded.settings, name)), loaded.origins.get(name, "default"))
        for name in Settings.model_fields
    ]
    print_rows(("setting", "value", "from"), rows, format)
