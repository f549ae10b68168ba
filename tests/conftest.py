"""Fixtures for the real servers: started when the first test asks for one, once in a run, and stopped at its end.

A test that needs what the machine lacks is skipped, and says why; where `CI` is `true` it fails.
"""

import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn, TypeVar

import pytest
from hypothesis import settings

from tests.conformance.cel.package import CEL_SPEC
from tests.servers import clickhouse as clickhouse_server
from tests.servers import kafka as kafka_server
from tests.servers.clickhouse import ClickHouse, Version
from tests.servers.kafka import Kafka
from tests.servers.packages import UnavailableError
from tests.servers.process import Server

# A worker of pytest-xdist is given a width, which commands would lay their tables out for.
os.environ.pop("COLUMNS", None)

# How long an example takes says what else the machine is doing.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

S = TypeVar("S", bound=Server)

MARKERS = {
    "kafka": {"kafka", "start_kafka"},
    "clickhouse": {"clickhouse", "clickhouse_latest", "start_clickhouse"},
}


def pytest_report_header() -> str:
    """Say in one line what the machine lacks, before the tests run."""
    found = [kafka_server.lacking(), clickhouse_server.lacking("25.8"), clickhouse_server.lacking("26.7")]
    found.append(CEL_SPEC.lacking())
    if not os.environ.get("USAGEAUDIT_TEST_DATA"):
        found.append("USAGEAUDIT_TEST_DATA names no folder of test data")
    return f"lacking on this machine: {'; '.join(reason for reason in found if reason) or 'nothing'}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test with the servers that its fixtures use, so that `-m "not kafka"` needs no discipline."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        for marker, names in MARKERS.items():
            if fixtures & names:
                item.add_marker(marker)


def skip(reason: str) -> NoReturn:
    """Skip the test for what the machine lacks; fail it where `CI` is `true`."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"must not be skipped where CI=true: {reason}", pytrace=False)
    pytest.skip(reason)


@contextmanager
def running(server: S) -> Iterator[S]:
    """Start a server, and stop it at the end of the block; skip the test where the machine can't have it."""
    try:
        server.start()
    except UnavailableError as error:
        skip(str(error))
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """Yield a Kafka broker, shared by all tests: use topics of your own."""
    with running(Kafka(tmp_path_factory.mktemp("kafka"))) as server:
        yield server


@pytest.fixture(scope="session")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouse]:
    """Yield a ClickHouse 25.8 server, shared by all tests: use databases of your own."""
    with running(ClickHouse(tmp_path_factory.mktemp("clickhouse"), "25.8")) as server:
        yield server


@pytest.fixture(scope="session")
def clickhouse_latest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouse]:
    """Yield a ClickHouse 26.7, shared by all tests: use databases of your own, and no wrong login."""
    with running(ClickHouse(tmp_path_factory.mktemp("clickhouse-latest"), "26.7")) as server:
        yield server


@pytest.fixture
def start_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Kafka]]:
    """Yield a function that starts a broker for this test alone, to be killed, paused or set up otherwise.

    It takes what differs from the shared one, if anything: `start_kafka({"log.retention.ms": "1000"})` for properties,
    `start_kafka(users={"name": "password"})` for a listener with logins.
    """
    with ExitStack() as stack:

        def start(properties: Mapping[str, str] | None = None, users: Mapping[str, str] | None = None) -> Kafka:
            return stack.enter_context(running(Kafka(tmp_path_factory.mktemp("own-kafka"), properties, users)))

        yield start


@pytest.fixture
def start_clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., ClickHouse]]:
    """Yield a function that starts a ClickHouse for this test alone; it takes the version, else it is 25.8."""
    with ExitStack() as stack:

        def start(version: Version = "25.8") -> ClickHouse:
            return stack.enter_context(running(ClickHouse(tmp_path_factory.mktemp("own-clickhouse"), version)))

        yield start


@pytest.fixture
def topic(kafka: Kafka) -> str:
    """Return the name of a new topic with four partitions."""
    name = f"usage-events-{uuid.uuid4().hex[:12]}"
    kafka.create_topic(name, partitions=4)
    return name


@pytest.fixture
def clickhouse_database(clickhouse: ClickHouse) -> Iterator[str]:
    """Yield the URL of a new, empty database of the 25.8 server, and drop it after the test."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    clickhouse.execute(f"CREATE DATABASE {name}")
    yield clickhouse.database_url(name)
    clickhouse.execute(f"DROP DATABASE {name} SYNC")


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Return the folder of real and scripted usage data that `USAGEAUDIT_TEST_DATA` names."""
    folder = os.environ.get("USAGEAUDIT_TEST_DATA")
    if not folder:
        skip("USAGEAUDIT_TEST_DATA names no folder of test data")
    if not Path(folder).is_dir():
        pytest.fail(f"USAGEAUDIT_TEST_DATA={folder} is not a folder", pytrace=False)
    return Path(folder)
