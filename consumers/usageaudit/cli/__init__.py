"""The command `usageaudit`: thin commands over the other rooms, their settings and their output.

`main` is the entry point. Nothing heavy is imported before a command needs it: `usageaudit --help` knows the table of
commands in `app` and no more.
"""

from __future__ import annotations

import importlib.util
import io
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line of this process and end it with the command's exit code.

    0: done; 1: it ran and found a problem; 2: wrong usage, configuration or policies; 3: a server is out of reach;
    130: interrupted.
    """
    if importlib.util.find_spec("typer") is None:
        sys.stderr.write("error: the command line is not installed: pip install 'usageaudit[cli]'\n")
        sys.exit(2)
    from usageaudit.cli.run import run

    for output in (sys.stdout, sys.stderr):
        if isinstance(output, io.TextIOWrapper):
            output.reconfigure(errors="backslashreplace")  # what the terminal's encoding lacks is no reason to end
    sys.exit(run(sys.argv[1:]))
