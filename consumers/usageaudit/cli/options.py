"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

StreamOption = Annotated[
    str | None, typer.Option(metavar="URL", help="Stream to use instead of the one in the settings.")
]
StoreOption = Annotated[
    str | None, typer.Option(metavar="URL", help="Store to use instead of the one in the settings.")
]
PoliciesOption = Annotated[
    list[str] | None,
    typer.Option(metavar="PACK", help="Shipped pack or folder of policies that judge; may be given several times."),
]
BUNDLE_HELP = "Shipped pack, folder, or hash of a bundle that the store keeps; several packs and folders with commas."
"""What `usageaudit.cli.bundles.bundle_named` takes."""
