"""Calls into an object when its process forks or ends, for as long as somebody holds the object."""

from __future__ import annotations

import atexit
import os
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def call_at_exit(method: Callable[[], None]) -> None:
    """Call a bound method when the interpreter ends."""
    atexit.register(_weakly(method))


def call_in_child(method: Callable[[], None]) -> None:
    """Call a bound method in every child that this process forks."""
    os.register_at_fork(after_in_child=_weakly(method))


def _weakly(method: Callable[[], None]) -> Callable[[], None]:
    weak = weakref.WeakMethod(method)

    def call() -> None:
        if (alive := weak()) is not None:
            alive()

    return call
