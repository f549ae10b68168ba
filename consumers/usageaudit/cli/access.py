"""The store for commands that only read: its folder where it is free, otherwise the process that holds it."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from usageaudit.cli.remote import connect
from usageaudit.errors import ConfigurationError, QueryError, QueryRefused, StoreUnavailable
from usageaudit.stores.address import EmbeddedAddress, open_store, parse_store_url
from usageaudit.stores.migrate import pending
from usageaudit.stores.port import Limits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from usageaudit.cli.settings import Settings
    from usageaudit.stores.port import Store

HELD_SECONDS = 5.0
"""How long to wait for a folder that another short command holds."""
_RETRY_SECONDS = 0.1


@contextmanager
def reading(settings: Settings) -> Iterator[Store]:
    """Give the store to a command that only reads.

    Raises StoreUnavailable where it can't be reached, ConfigurationError where there is no data yet.
    """
    store = _open(settings.store)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def explaining_missing_tables(store: Store) -> Iterator[None]:
    """Where the SQL of a person fails and the store lacks migrations, say that instead. Raises ConfigurationError."""
    try:
        yield
    except QueryRefused:
        raise
    except QueryError as error:
        if pending(store):
            raise ConfigurationError(
                "the store's tables are not there or not up to date: run `usageaudit migrate`, or start the consumer"
            ) from error
        raise


def limits_of(settings: Settings) -> Limits:
    """Return what a person's query may use."""
    return Limits(settings.query_seconds, settings.query_memory, settings.query_rows)


def _open(url: str) -> Store:
    address = parse_store_url(url)
    if not isinstance(address, EmbeddedAddress):
        return open_store(url)
    if not address.directory.is_dir():
        raise ConfigurationError(
            f"{address.directory} is no folder, so nothing was recorded there yet: run `usageaudit up`, or name the "
            "store with USAGEAUDIT_STORE"
        )
    return _open_folder(url, address.directory)


def _open_folder(url: str, folder: Path) -> Store:
    """Open the folder, or connect to the process that holds it."""
    for patience in _patiently():
        if (remote := connect(folder)) is not None:
            return remote
        store = open_store(url)
        try:
            store.execute("SELECT 1")
        except StoreUnavailable:
            store.close()
            if not patience:
                raise
        else:
            return store
    raise StoreUnavailable(f"the embedded store {folder} is held by another process")


def hold(url: str) -> Store:
    """Open a store for a process that will hold it; a short command that has the folder is waited for.

    Raises StoreUnavailable, at once where another service holds the folder.
    """
    address = parse_store_url(url)
    store = open_store(url)
    for patience in _patiently():
        try:
            store.execute("SELECT 1")
        except StoreUnavailable as error:
            if not isinstance(address, EmbeddedAddress) or not patience:
                raise
            if (remote := connect(address.directory)) is not None:
                remote.close()
                raise StoreUnavailable(
                    f"another usageaudit service runs on {address.directory} already; stop that one first, or name "
                    "other data with USAGEAUDIT_STORE and USAGEAUDIT_STREAM"
                ) from error
        else:
            break
    return store


def _patiently() -> Iterator[bool]:
    """Yield True again and again for HELD_SECONDS, with a pause in between, and False at last."""
    until = time.monotonic() + HELD_SECONDS
    while time.monotonic() < until:
        yield True
        time.sleep(_RETRY_SECONDS)
    yield False
