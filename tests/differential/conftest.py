"""Stores with the ledger's tables, shared by the tests of this folder: each fills the ledger with events of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.ledger_rows import EMBEDDED, SERVER, migrated_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usageaudit.stores.port import Store


@pytest.fixture(scope="module", params=[EMBEDDED, SERVER])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Yield an embedded store, and then one on a server."""
    with migrated_store(request, tmp_path_factory) as opened:
        yield opened
