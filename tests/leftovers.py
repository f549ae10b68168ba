"""Collects what kafka-python leaves behind where it was refused, so that no other test is blamed for it."""

from __future__ import annotations

import gc
import logging
import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def leftovers_collected() -> Iterator[None]:
    """Collect the sockets on which kafka-python was refused: it leaves them to the garbage collector.

    Its log lines are kept from pytest, which would keep the exceptions that they hold, and with them the sockets.
    """
    logger = logging.getLogger("kafka")
    logger.setLevel(logging.CRITICAL)
    yield
    for thread in threading.enumerate():
        if thread.name == "usageaudit-publisher":
            thread.join(30)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    logger.setLevel(logging.NOTSET)
