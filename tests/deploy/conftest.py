"""The servers of a deployment: started and set up by the files of deploy/."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import running
from tests.deploy.deployed import DeployedClickHouse, DeployedKafka, script
from usageaudit.stores.address import open_store
from usageaudit.stores.migrate import migrate


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that deploy/secrets.sh filled."""
    folder = tmp_path_factory.mktemp("deploy") / "secrets"
    script("secrets.sh", str(folder))
    return folder


@pytest.fixture(scope="module")
def store(secrets: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeployedClickHouse]:
    """Yield a ClickHouse with usageaudit's logins, tables and views, made in the order of compose.yaml."""
    with running(DeployedClickHouse(tmp_path_factory.mktemp("deployed-clickhouse"), secrets)) as server:
        server.apply("users")
        migrating = open_store(server.login("migrate"))
        migrate(migrating)
        migrating.close()
        server.apply("views")
        yield server


@pytest.fixture(scope="module")
def broker(secrets: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeployedKafka]:
    """Yield a Kafka with usageaudit's topic, logins and rights."""
    with running(DeployedKafka(tmp_path_factory.mktemp("deployed-kafka"), secrets)) as server:
        server.init()
        yield server
