"""`usageaudit consume` as it is shipped, with its defaults: fence, recovery, look-up of duplicates, three values."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.servers.clickhouse import ClickHouse
    from tests.servers.kafka import Kafka

COMMAND: Sequence[str] = (str(Path(sys.executable).with_name("usageaudit")), "consume", "--until-caught-up")


def command(bundle: Path) -> list[str]:
    """Return the command that consumes the topic up to its present end, judging by a bundle."""
    return [*COMMAND, "--policies", str(bundle)]


def environment(kafka: Kafka, clickhouse: ClickHouse, topic: str, database: str) -> Mapping[str, str]:
    """Return where it reads and writes; nothing else is set."""
    return {
        "USAGEAUDIT_STREAM": f"{kafka.url}?topic={topic}&group={database}",
        "USAGEAUDIT_STORE": clickhouse.database_url(database),
    }
