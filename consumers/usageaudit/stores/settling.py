"""What those who go on from what they wrote need of replicas, and what any other store gives anyway."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from usageaudit.stores.port import Replicated

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from usageaudit.stores.port import Store


def settle(store: Store, *tables: str) -> None:
    """Return when what was written to tables outlives the loss of a replica, and is read whichever answers."""
    if isinstance(store, Replicated):
        for table in tables:
            store.catch_up(table)


def staying(store: Store) -> AbstractContextManager[str]:
    """Have calls go to one replica or fail; yields which one it is, the same text for a store that is no cluster."""
    return store.staying() if isinstance(store, Replicated) else nullcontext("")
