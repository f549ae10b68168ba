"""Alerts as a service: the dispatcher and the port that takes acknowledgements, by the configuration in force."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from threading import Event
from typing import TYPE_CHECKING

import structlog

from usageaudit.alerts.acknowledging.port import acknowledging, link_of
from usageaudit.alerts.config import read_alerts
from usageaudit.alerts.dispatcher import Dispatcher, acknowledge, run_dispatcher
from usageaudit.alerts.targets.opening import open_target
from usageaudit.errors import ConfigurationError
from usageaudit.operating.beside import beside
from usageaudit.scheduler.lease import SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from usageaudit.alerts.config.settings import AlertsConfig
    from usageaudit.alerts.dispatcher import DispatcherState
    from usageaudit.policy.model import Bundle
    from usageaudit.stores.port import Store

ALONE_SECONDS = 3.0
"""The lease where the store lets in no other process: one that was killed is not waited for any longer."""
log = structlog.get_logger("usageaudit.alerts")


@dataclass(slots=True)
class AlertsService:
    """Runs a dispatcher, and another one where the configuration was read again or the policies have changed.

    `path` is that of an alerts.yaml, `bundle` returns the policies in force. Raises ConfigurationError where the file
    can't be used when this is made; where that comes later what was in force stays.
    """

    path: Path
    store: Store
    bundle: Callable[[], Bundle]
    since: int | None = None
    lease_seconds: float = SECONDS
    _config: AlertsConfig = field(init=False)
    _dispatcher: Dispatcher | None = None
    # A plain flag: the lock of an Event is not to be taken by a signal handler that interrupts its owner.
    _reload: bool = False

    def __post_init__(self) -> None:
        self._config = read_alerts(self.path)

    def request_reload(self) -> None:
        """Ask for the configuration to be read again; safe to call from a signal handler."""
        self._reload = True

    def state(self) -> DispatcherState | None:
        """Return the dispatcher's numbers, None before there is one."""
        return None if self._dispatcher is None else self._dispatcher.state()

    def run(self, stop: Event) -> None:
        """Decide and deliver until `stop` is set."""
        while not stop.is_set():
            self._read_again()
            bundle = self.bundle()
            self._run_round(bundle, _Over(stop, partial(self._changed, bundle.hash)))

    def _read_again(self) -> None:
        if not self._reload:
            return
        self._reload = False
        try:
            self._config = read_alerts(self.path)
        except ConfigurationError as error:
            log.error("alerts.yaml can't be used; what was in force stays", cause=str(error))
        else:
            log.info("alerts.yaml was read again", targets=len(self._config.targets))

    def _changed(self, bundle_hash: str) -> bool:
        return self._reload or self.bundle().hash != bundle_hash

    def _run_round(self, bundle: Bundle, over: Event) -> None:
        config = self._config
        with ExitStack() as stack:
            targets = {name: open_target(one, config.network) for name, one in config.targets.items()}
            link: Callable[[str], str] = lambda _: ""  # noqa: E731
            if config.acknowledging is not None:
                stack.enter_context(acknowledging(config.acknowledging, self.store, acknowledge))
                link = link_of(config.acknowledging).for_alert
            self._dispatcher = Dispatcher(
                self.store, config, bundle, targets, link, self.since, lease_seconds=self.lease_seconds
            )
            run_dispatcher(self._dispatcher, over)


class _Over(Event):
    """Set where another one is, or a condition holds."""

    def __init__(self, other: Event, condition: Callable[[], bool]) -> None:
        super().__init__()
        self._other, self._condition = other, condition

    def is_set(self) -> bool:
        """Tell whether it is over."""
        return self._other.is_set() or self._condition()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the other one, and tell whether it is over."""
        self._other.wait(timeout)
        return self.is_set()


@contextmanager
def alerts_service(
    path: Path, store: Store, bundle: Callable[[], Bundle], stop: Event, *, lease_seconds: float = SECONDS
) -> Iterator[AlertsService]:
    """Run alerts beside the main loop of a service while the block runs, with another store like this one.

    Raises ConfigurationError where alerts.yaml can't be used; what it fails with later sets `stop` and is raised.
    """
    own = store.another()
    try:
        service = AlertsService(path, own, bundle, lease_seconds=lease_seconds)
        with beside("alerts", service.run, stop):
            yield service
    finally:
        own.close()
