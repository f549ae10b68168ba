"""An alert arrives: the dispatcher tells a receiver in this process of the gravest violations."""

from __future__ import annotations

import time
from contextlib import closing
from ipaddress import ip_network
from queue import SimpleQueue
from typing import TYPE_CHECKING

from usageaudit.alerts.config.secrets import Plain, Secret
from usageaudit.alerts.config.settings import AlertsConfig, Match, Network, Route, WebhookSettings
from usageaudit.alerts.dispatcher import Dispatcher
from usageaudit.alerts.receiving import receiving
from usageaudit.alerts.signing import new_secret
from usageaudit.alerts.targets.opening import open_target
from usageaudit.policy import load_bundle

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from usageaudit.alerts.receiving import Arrival
    from usageaudit.stores.port import Store

TOLD = "*/real-time-facial-recognition-on-mobile-cameras"
SECONDS = 20.0
_NAME = "receiver"


def tell(store: Store, folder: Path, policies: tuple[str, ...]) -> Sequence[Arrival]:
    """Return the alerts that arrived: none where an earlier run told of them already."""
    secret = folder / "webhook-secret"
    secret.touch(0o600)
    secret.write_text(new_secret() + "\n", encoding="utf-8")
    arrivals: SimpleQueue[Arrival] = SimpleQueue()
    with (
        receiving("127.0.0.1", 0, secret.read_text(encoding="utf-8").strip(), arrivals.put, lambda _: None) as port,
        closing(store.another()) as own,
    ):
        config = _config(f"http://127.0.0.1:{port.port}/", secret)
        targets = {name: open_target(one, config.network) for name, one in config.targets.items()}
        _dispatch(Dispatcher(own, config, load_bundle(policies), targets, since=0))
    found = [arrivals.get() for _ in range(arrivals.qsize())]
    return sorted(found, key=lambda one: (one.data["first_time"], one.data["application"]))


def _config(url: str, secret: Path) -> AlertsConfig:
    webhook = WebhookSettings(_NAME, Plain(url), (Secret("file", str(secret)),))
    return AlertsConfig(
        targets={_NAME: webhook},
        routes=(Route("demonstration", (_NAME,), Match(policy=(TOLD,))),),
        network=Network((ip_network("127.0.0.1/32"),)),
    )


def _dispatch(dispatcher: Dispatcher) -> None:
    """Take steps until there is nothing more to decide and to deliver."""
    until, quiet = time.monotonic() + SECONDS, 0
    try:
        while quiet < 2 and time.monotonic() < until:
            done, state = dispatcher.step(), dispatcher.state()
            quiet = 0 if done or state.waiting or state.retrying or state.backlog else quiet + 1
            time.sleep(0.02)
    finally:
        dispatcher.close()
