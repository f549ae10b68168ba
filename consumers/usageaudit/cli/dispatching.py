"""`usageaudit alerts run`: the dispatcher as a process of its own."""

from __future__ import annotations

from contextlib import ExitStack
from threading import Event
from typing import TYPE_CHECKING

import structlog

from usageaudit.alerts.service import ALONE_SECONDS, AlertsService
from usageaudit.cli.access import hold, limits_of
from usageaudit.cli.logs import configure_logging
from usageaudit.cli.masking import masked
from usageaudit.cli.remote import QueryServer
from usageaudit.cli.service import watching
from usageaudit.operating.health import Health
from usageaudit.operating.service import Operated
from usageaudit.pipeline.activity import Activity
from usageaudit.pipeline.policies import Policies
from usageaudit.pipeline.service import stopping_on_signals
from usageaudit.scheduler.lease import SECONDS
from usageaudit.stores.address import EmbeddedAddress, parse_store_url
from usageaudit.stores.ledger import Ledger
from usageaudit.stores.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from usageaudit.cli.settings import Settings
    from usageaudit.policy import Bundle


def run_alone(settings: Settings, path: Path) -> None:
    """Decide and deliver until SIGTERM or Ctrl-C; SIGHUP reads the file and the policies again."""
    configure_logging(settings.log_level, settings.log_format)
    stop, activity = Event(), Activity(connected=True)  # it has no stream that could be away
    operated = Operated(Health(activity, stop, settings.hung_seconds))
    reloads: list[Callable[[], None]] = []
    with ExitStack() as stack:
        # First, since nothing but a handler lets SIGTERM end the first process of a container.
        stack.enter_context(stopping_on_signals(stop, lambda: [one() for one in reloads] and None))
        operated.listen(settings.http, chosen="http" in settings.model_fields_set)
        stack.callback(operated.close)
        policies = Policies(settings.policies)
        store = hold(settings.store)
        stack.callback(store.close)
        migrate(store)
        address = parse_store_url(settings.store)
        lease = SECONDS
        if isinstance(address, EmbeddedAddress):
            lease = ALONE_SECONDS
            stack.enter_context(QueryServer(address.directory, store, limits_of(settings)))
        own = store.another()
        stack.callback(own.close)
        ledger = Ledger(own)

        def current() -> Bundle:
            activity.live()
            return policies.current(ledger).bundle

        service = AlertsService(path, own, current, lease_seconds=lease)
        operated.started(policies, stack.enter_context(watching(settings, store)))
        operated.dispatching(service.state)
        reloads += [policies.request_reload, service.request_reload]
        log = structlog.get_logger("usageaudit.alerts")
        log.info("dispatching", store=masked(settings.store), bundle=policies.bundle_hash)
        service.run(stop)
