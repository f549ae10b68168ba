"""Servers that can be killed at a system call, and consumers that go on while they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.faults.campaign import wait_until
from tests.faults.shim import Shim
from tests.servers.clickhouse import ClickHouse
from tests.servers.kafka import Kafka
from tests.servers.process import Server, ServerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

DIES_SECONDS = 240
STARTS_SECONDS = 300


class ShimmedClickHouse(ClickHouse):
    """A store with the shim preloaded."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir)
        self.shim = Shim(data_dir)

    def _prepare(self) -> tuple[Sequence[str], Mapping[str, str]]:
        command, environment = super()._prepare()
        return command, {**environment, **self.shim.environment}

    def folder_of(self, database: str, table: str) -> str:
        """Return the folder of a table's data, relative to that of all tables."""
        ((uuid,),) = self.execute(f"SELECT uuid FROM system.tables WHERE database = '{database}' AND name = '{table}'")
        return str(uuid)


class ShimmedKafka(Kafka):
    """A broker with the shim preloaded."""

    def __init__(self, data_dir: Path, properties: Mapping[str, str] | None = None) -> None:
        super().__init__(data_dir, properties)
        self.shim = Shim(data_dir)

    def _prepare(self) -> tuple[Sequence[str], Mapping[str, str]]:
        command, environment = super()._prepare()
        return command, {**environment, **self.shim.environment}


def is_gone(server: Server) -> bool:
    """Tell whether the process of a server has ended by itself."""
    try:
        return server.pid == 0
    except ServerError:
        return True


def start_again_once_dead(server: Server, shim: Shim) -> None:
    """Wait until a server was killed by its shim, and start it again on the same data."""
    wait_until(f"{type(server).__name__} to be killed by its shim", lambda: is_gone(server), DIES_SECONDS)
    shim.disarm()
    server.kill()  # forgets the process that is gone
    server.start(STARTS_SECONDS)
