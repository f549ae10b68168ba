"""Calls into an object when its process forks or ends, for as long as somebody holds the object."""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def call_at_exit(method: Callable[[], None]) -> None:
    """Call a bound method when the interpreter ends."""
    atexit.register(_weakly(method))


def call_at_worker_exit(method: Callable[[], None]) -> None:
    """Call a bound method when a process of multiprocessing ends, which runs nothing that `atexit` knows.

    To be called in that process itself, since it forgets what its parent asked for.
    """
    util, process = sys.modules.get("multiprocessing.util"), sys.modules.get("multiprocessing.process")
    if util is not None and process is not None and process.parent_process() is not None:
        util.Finalize(None, _weakly(method), exitpriority=0)


def call_in_child(method: Callable[[], None]) -> None:
    """Call a bound method in every child that this process forks."""
    os.register_at_fork(after_in_child=_weakly(method))


def call_around_forks(before: Callable[[], None], in_parent: Callable[[], None], in_child: Callable[[], None]) -> None:
    """Call bound methods before every fork of this process and after it, in the parent and in the child."""
    os.register_at_fork(before=_weakly(before), after_in_parent=_weakly(in_parent), after_in_child=_weakly(in_child))


def _weakly(method: Callable[[], None]) -> Callable[[], None]:
    weak = weakref.WeakMethod(method)

    def call() -> None:
        if (alive := weak()) is not None:
            alive()

    return call
