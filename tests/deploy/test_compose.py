"""deploy/compose.yaml: valid by the Compose specification, complete, and as closed as the documentation says.

No container is run. What the services do is tried outside of one: their scripts and configurations in the other tests
of this folder, their commands here.
"""

from __future__ import annotations

import json
import os
import re
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.deploy.deployed import DEPLOY, script, usageaudit

if TYPE_CHECKING:
    from pathlib import Path

COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ONCE = {"kafka-init", "clickhouse-users", "migrate", "clickhouse-views", "operate"}
ANSWER_SECONDS = 60
EACH = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)


def _schema() -> Any:
    # check-jsonschema carries https://github.com/compose-spec/compose-spec as it was at its release.
    folder = files("check_jsonschema") / "builtin_schemas" / "vendor"
    return json.loads((folder / "compose-spec.json").read_text(encoding="utf-8"))


def _errors(document: Any) -> list[str]:
    return [error.message for error in Draft202012Validator(_schema()).iter_errors(document)]


def test_it_is_a_compose_file() -> None:
    """The file is valid by the JSON schema of the Compose specification, which notices a wrong word."""
    assert _errors(COMPOSE) == []
    assert _errors({**COMPOSE, "services": {"x": {"image": "x", "read-only": True}}}) != []


@EACH
def test_a_service_is_closed(service: dict[str, Any]) -> None:
    """Each service has a read-only root, no capabilities, a user that is not root, limits, and a pinned image."""
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("privileged")
    assert {"cpus", "memory", "pids"} <= set(service["deploy"]["resources"]["limits"])
    name, _, tag = service["image"].rpartition(":")
    assert name
    assert tag[:1].isdigit() or tag[:1] == "v"
    assert "build" in service or not str(service["user"]).startswith(("0", "root"))


@EACH
def test_ports_are_on_loopback(service: dict[str, Any]) -> None:
    """No port is published beyond this host."""
    assert [port for port in service.get("ports", ()) if not port.startswith("127.0.0.1:")] == []


def test_everything_that_runs_on_has_a_health_check() -> None:
    """A service that stays is checked, ours by their image and the others here; those that end are not restarted."""
    checked = {name for name, service in SERVICES.items() if service.get("healthcheck", {}).get("test")}
    assert checked | ONCE | {"consumer", "scheduler", "alerts"} == set(SERVICES)
    assert {SERVICES[name]["restart"] for name in ONCE} <= {"on-failure", "no"}


@EACH
def test_what_a_service_mounts_is_there(service: dict[str, Any]) -> None:
    """Each bind mount is a file or folder beside the compose file, read-only; each volume is named at the end."""
    for mount in service.get("volumes", ()):
        source, _, rest = mount.partition(":")
        if source.startswith("."):
            assert (DEPLOY / source).exists(), mount
            assert rest.endswith(":ro"), mount
        else:
            assert source in COMPOSE["volumes"]


def test_secrets_are_those_that_the_script_writes(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Each secret is a file that secrets.sh writes, in a folder for its owner alone; services name no other."""
    folder = tmp_path_factory.mktemp("compose") / "secrets"
    script("secrets.sh", str(folder))
    assert {f"./secrets/{file.name}" for file in folder.iterdir()} >= {
        one["file"] for one in COMPOSE["secrets"].values()
    }
    named = {secret for service in SERVICES.values() for secret in service.get("secrets", ())}
    assert named <= set(COMPOSE["secrets"])
    assert folder.stat().st_mode & 0o077 == 0
    assert "/secrets/" in (DEPLOY / ".gitignore").read_text(encoding="utf-8")


def test_nothing_secret_is_in_the_environment() -> None:
    """No variable of a service holds a password: they name files."""
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if any(word in variable for word in ("PASSWORD", "STREAM", "STORE", "SECRET")):
                assert str(value).startswith("/run/secrets/"), f"{name}: {variable}"
                assert str(value).removeprefix("/run/secrets/") in service["secrets"], f"{name}: {variable}"


def test_scripts_get_the_secrets_that_they_read() -> None:
    """What the scripts of Kafka and ClickHouse read from the folder of secrets is given to their services."""
    for name, path in (
        ("kafka", "kafka/start.sh"),
        ("kafka-init", "kafka/init.sh"),
        ("clickhouse-views", "clickhouse/apply.sh"),
    ):
        text = (DEPLOY / path).read_text(encoding="utf-8")
        for secret in COMPOSE["secrets"]:
            if re.search(rf"\$secrets/{secret}\b", text):
                assert secret in SERVICES[name]["secrets"], f"{name} lacks {secret}"
    assert {f"kafka_{login}" for login in ("publisher", "consumer", "operator")} <= set(
        SERVICES["kafka-init"]["secrets"]
    )
    logins = ("migrate", "ingest", "schedule", "alert", "read", "review", "operate")
    assert {f"clickhouse_{login}" for login in logins} <= set(SERVICES["clickhouse-users"]["secrets"])


@pytest.mark.parametrize("name", [name for name, service in SERVICES.items() if "build" in service])
def test_settings_of_our_services_are_ours(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Usageaudit takes the environment that a service gives it, and its command is one of usageaudit's."""
    folder = tmp_path_factory.mktemp("settings") / "secrets"
    script("secrets.sh", str(folder))
    given = {key: str(value) for key, value in SERVICES[name]["environment"].items()}
    environment = {key: value.replace("/run/secrets", str(folder)) for key, value in given.items()}
    shown = usageaudit("config", "show", environment={**environment, "USAGEAUDIT_HTTP": "0.0.0.0:9464"})
    assert "kafka:9092" in shown or "clickhouse:9000" in shown
    usageaudit(*SERVICES[name]["command"], "--help")
    assert (folder / "clickhouse_admin").read_text() not in shown
    assert os.environ.get("USAGEAUDIT_STORE") is None


def test_the_example_of_alerts_can_be_used(tmp_path: Path) -> None:
    """`alerts check` takes alerts.yaml with the secrets that secrets.sh writes, and not without them."""
    script("secrets.sh", str(tmp_path / "secrets"))
    text = (DEPLOY / "alerts" / "alerts.yaml").read_text(encoding="utf-8")
    (tmp_path / "alerts.yaml").write_text(text.replace("/run/secrets", str(tmp_path / "secrets")), encoding="utf-8")
    environment = {"USAGEAUDIT_ALERTS": str(tmp_path / "alerts.yaml")}
    assert "soc" in usageaudit("alerts", "check", environment=environment)
    for name in ("alerts_webhook", "alerts_link"):
        secret = (tmp_path / "secrets" / name).rename(tmp_path / name)
        usageaudit("alerts", "check", environment=environment, expect=2)
        secret.rename(tmp_path / "secrets" / name)


def test_a_consumer_has_the_time_that_its_end_takes() -> None:
    """Nobody kills a consumer that waits for the store's answer, for which a store's URL gives a minute by default."""
    unit = (DEPLOY / "systemd" / "usageaudit-consumer@.service").read_text(encoding="utf-8")
    (stops,) = re.findall(r"(?m)^TimeoutStopSec=(\d+)$", unit)
    (waits,) = re.findall(r"^(\d+)s$", SERVICES["consumer"]["stop_grace_period"])
    assert min(int(stops), int(waits)) >= ANSWER_SECONDS + 15


def test_scripts_that_are_named_are_there() -> None:
    """Each script that a file of deploy/ names is one of deploy/, or one of Kafka's."""
    files = [path for path in DEPLOY.rglob("*") if path.is_file() and "secrets" not in path.parent.name]
    names = {path.name for path in files}
    for path in files:
        named = set(re.findall(r"\b[\w-]+\.sh\b", path.read_text(encoding="utf-8")))
        assert {name for name in named - names if not name.startswith("kafka-")} == set(), path


def test_the_order_of_starting_has_no_circle() -> None:
    """Each service starts after what it needs: logins before tables, tables before views, all before the consumer."""
    after = {name: set(service.get("depends_on", {})) for name, service in SERVICES.items()}
    order: list[str] = []
    while after:
        ready = sorted(name for name, needs in after.items() if needs <= set(order))
        assert ready, f"a circle among {sorted(after)}"
        order += ready
        after = {name: needs for name, needs in after.items() if name not in ready}
    wanted = ["clickhouse", "clickhouse-users", "migrate", "clickhouse-views", "consumer"]
    assert [name for name in order if name in wanted] == wanted
