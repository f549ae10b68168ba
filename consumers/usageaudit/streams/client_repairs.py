"""Two faults of kafka-python 3.0 that stop a consumer, made good before each poll.

Both need its inner parts. Where another version lacks them nothing is done, and the conformance suite tells whether it
can do without.
"""

from __future__ import annotations

from typing import Any


def make_good(consumer: Any) -> None:
    """See to it that the next poll finds everything that came since the last one."""
    _free_parked(getattr(consumer, "_fetcher", None))
    _keep_join(getattr(consumer, "_coordinator", None))


def _free_parked(fetcher: Any) -> None:
    """Deliver records that were set aside while their partition was paused.

    The client looks for them only while it has no other records at hand, and takes those it has used up for some: a
    partition that was paused in the middle of a fetch can stay silent for ever after it is resumed.
    """
    if hasattr(fetcher, "_next_partition_records") and not fetcher._next_partition_records:  # noqa: SLF001
        fetcher._next_partition_records = None  # noqa: SLF001


def _keep_join(coordinator: Any) -> None:
    """Use the result of joining the group where it came between two polls.

    The client throws it away. Where another reason to join is left it joins again: coming from the group's leader that
    starts another rebalance, which may end between two polls again, and so on while the partitions lie idle. Where the
    reason was that partitions were added, none is left, and the client stays between two generations for ever.
    """
    task = getattr(coordinator, "_join_task", None)
    if task is None:
        return
    coordinator.rejoin_needed = True
    if not isinstance(task, _Unread) and task.is_done:
        coordinator._join_task = _Unread(task)  # noqa: SLF001


class _Unread:
    """A finished task that still looks as if it were to be waited for; waiting ends at once."""

    is_done = False

    def __init__(self, task: Any) -> None:
        self.add_callback = task.add_callback
        self.add_errback = task.add_errback
