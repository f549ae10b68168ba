"""Receivers that answer badly, through the dispatcher with real webhooks: what the record says, and what arrives."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.alerts.test_dispatching import TABLES, Clock, bundle, config, until, violations
from tests.ledger_rows import EMBEDDED, migrated_store
from tests.servers.receivers import Receiver, answering
from usageaudit.alerts.config.secrets import Plain, Secret
from usageaudit.alerts.config.settings import Network, Retry, WebhookSettings
from usageaudit.alerts.dispatcher import Dispatcher
from usageaudit.alerts.signing import new_secret
from usageaudit.alerts.targets.webhook import WebhookTarget
from usageaudit.stores.fencing import fence_of
from usageaudit.streams.port import Partition

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers.receivers import Behaviour, Request
    from usageaudit.policy.model import Bundle
    from usageaudit.stores.port import Store

__all__ = ["bundle"]
SECONDS = 1.0
"""The time-out of the targets."""
HUGE = 100 * 1024 * 1024


@dataclass
class Mended:
    """Behaves badly until it is mended."""

    badly: Behaviour
    mended: bool = False

    def __call__(self, receiver: Receiver, connection: socket.socket, request: Request) -> None:
        """Answer."""
        (answering("200 OK", b"thanks") if self.mended else self.badly)(receiver, connection, request)


def _huge(receiver: Receiver, connection: socket.socket, _request: Request) -> None:
    head = f"HTTP/1.1 500 Internal Server Error\r\nContent-Length: {HUGE}\r\n\r\n".encode()
    receiver.send(connection, head)
    for _ in range(HUGE // 65_536):
        receiver.send(connection, b"x" * 65_536)


BAD: dict[str, tuple[Behaviour, str, int]] = {
    "refuses": (answering("400 Bad Request", b"no such alert"), "dead", 400),
    "moved": (answering("301 Moved Permanently", b"", "Location: http://127.0.0.1:1/"), "dead", 301),
    "fails": (answering("500 Internal Server Error", b"out of order"), "retrying", 500),
    "busy": (answering("429 Too Many Requests", b"", "Retry-After: 600"), "retrying", 429),
    "silent": (lambda *_: None, "retrying", 0),
    "slow": (lambda receiver, connection, _: receiver.drip(connection, b"HTTP/1.1 200 OK" * 9), "retrying", 0),
    "garbled": (lambda receiver, connection, _: receiver.send(connection, b"\0garbage\r\n\r\n"), "retrying", 0),
    "huge": (_huge, "retrying", 500),
}
"""How receivers behave, and the state and status of their deliveries."""


@pytest.fixture(scope="module", params=[EMBEDDED])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Yield a store with its tables, where a partition was taken over."""
    with migrated_store(request, tmp_path_factory) as made:
        for table in TABLES:
            made.execute(f"TRUNCATE TABLE {table}")
        fence_of(made).raise_epoch(Partition("stream-1", "usage-events", 0), "somebody")
        yield made


@dataclass
class Scene:
    """Receivers by name, and a dispatcher that tells all of them."""

    receivers: dict[str, Receiver]
    behaviours: dict[str, Mended]
    dispatcher: Dispatcher
    clock: Clock
    rows: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    def read(self, store: Store) -> dict[str, tuple[Any, ...]]:
        """Return id, state, attempts, status, answer and seconds to the next try of each target's delivery."""
        columns = "target, delivery_id, state, attempts, status, response, toUnixTimestamp(next_try)"
        rows = store.execute(f"SELECT {columns} FROM alert_deliveries WHERE alert_id IN (SELECT alert_id FROM alerts "
                             "WHERE policy_id = 'own/one')").rows  # fmt: skip
        self.rows = {str(target): tuple(rest) for target, *rest in rows}
        return self.rows


@pytest.fixture
def scene(store: Store, bundle: Bundle, tmp_path: Path) -> Iterator[Scene]:
    """Yield receivers that behave badly and one that does not, and their dispatcher."""
    secret = tmp_path / "secret"
    secret.write_text(new_secret())
    behaviours = {name: Mended(badly) for name, (badly, *_) in BAD.items()} | {"good": Mended(_huge, mended=True)}
    network = Network(networks=(ip_network("127.0.0.0/8"),))
    with ExitStack() as stack:
        receivers = {name: stack.enter_context(Receiver(behave)) for name, behave in behaviours.items()}
        urls = {name: receiver.url for name, receiver in receivers.items()} | {"nowhere": "https://name.invalid/"}
        targets = {
            name: WebhookTarget(WebhookSettings(name, Plain(url), (Secret("file", str(secret)),), SECONDS), network)
            for name, url in urls.items()
        }
        clock = Clock()
        retrying = config(*targets, retry=Retry(1, 5, 86_400))
        dispatcher = Dispatcher(store, retrying, bundle, targets, clock=clock)
        dispatcher.step()
        yield Scene(receivers, behaviours, dispatcher, clock)
        dispatcher.close()


def test_whatever_a_receiver_answers_the_record_says_it_and_nothing_is_lost(store: Store, scene: Scene) -> None:
    """Each bad answer is on record with its next try, one that is good is told at once, and mended ones later."""
    violations(store, ("2026-03-02 09:00:00", "bot"))
    until(scene.dispatcher, lambda: "good" in {one for one, row in scene.read(store).items() if row[1] == "delivered"})
    assert scene.receivers["good"].requests
    until(scene.dispatcher, lambda: all(row[1] != "waiting" for row in scene.read(store).values()))
    for name, (_, state, status) in BAD.items():
        assert scene.rows[name][1:4] == (state, 1, status), name
    assert scene.rows["nowhere"][1:4] == ("retrying", 1, 0)
    assert "out of order" in scene.rows["fails"][4]
    assert all(row[4] for row in scene.rows.values())
    assert all(len(row[4]) <= 1024 for row in scene.rows.values())
    assert scene.rows["busy"][5] > time.time() + 590
    assert all(
        0 < row[5] <= time.time() + 8 for name, row in scene.rows.items() if row[1] == "retrying" and name != "busy"
    )
    assert scene.receivers["huge"].sent < HUGE
    _mend(store, scene)


def _mend(store: Store, scene: Scene) -> None:
    """Let every receiver behave, and see what was tried again arrive, each by its id."""
    for behaviour in scene.behaviours.values():
        behaviour.mended = True
    tried = [name for name, (_, state, _) in BAD.items() if state == "retrying"]
    scene.clock.now += 100
    until(scene.dispatcher, lambda: all(scene.read(store)[one][1] == "delivered" for one in tried if one != "busy"))
    assert _arrived(scene, "busy") == 1  # it asked for longer
    scene.clock.now += 1_000
    until(scene.dispatcher, lambda: scene.read(store)["busy"][1] == "delivered")
    assert all(_arrived(scene, name) == 2 for name in tried)
    assert _arrived(scene, "refuses") == _arrived(scene, "moved") == 1


def _arrived(scene: Scene, name: str) -> int:
    """Return how often a receiver was sent the alert; of what others did not take it hears by other ids."""
    return [one.headers["webhook-id"] for one in scene.receivers[name].requests].count(scene.rows[name][0])
