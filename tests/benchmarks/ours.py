"""`usageaudit consume` as it is shipped, with its defaults: fence, recovery, look-up of duplicates, three values."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.servers.clickhouse import ClickHouse
    from tests.servers.kafka import Kafka

PROGRAM = str(Path(sys.executable).with_name("usageaudit"))
MIGRATE: Sequence[str] = (PROGRAM, "migrate")
"""Creates the tables, so that merging them can be put off before the measurement begins."""


def command(bundle: Path) -> Sequence[str]:
    """Return the command that consumes the topic up to its present end, judging by a bundle."""
    return (PROGRAM, "consume", "--until-caught-up", "--policies", str(bundle))


def environment(kafka: Kafka, clickhouse: ClickHouse, topic: str, database: str) -> Mapping[str, str]:
    """Return where it reads and writes; nothing else is set."""
    return {
        "USAGEAUDIT_STREAM": f"{kafka.url}?topic={topic}&group={database}",
        "USAGEAUDIT_STORE": clickhouse.database_url(database),
    }
