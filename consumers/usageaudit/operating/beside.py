"""Work that goes on beside the main loop of a service, in a thread of its own."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

END_SECONDS = 10.0
"""How long the end of such work is waited for: what it has under way can be done again."""
log = structlog.get_logger("usageaudit.operating")


@contextmanager
def beside(name: str, work: Callable[[threading.Event], object], stop: threading.Event) -> Iterator[None]:
    """Run work while the block runs, and set the event that it is given when the block ends.

    What it fails with sets `stop`, which ends the service, and is raised at the end of the block: a service that goes
    on without a part of it looks well and is not.
    """
    over = threading.Event()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work(over)
        except BaseException as error:  # noqa: BLE001  raised again by the main thread
            failures.append(error)
            stop.set()

    thread = threading.Thread(target=run, name=f"usageaudit-{name}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(END_SECONDS)
        if thread.is_alive():
            log.warning("ending without waiting for it any longer", work=name)
        if failures:
            raise failures[0]
