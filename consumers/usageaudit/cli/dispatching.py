"""`usageaudit alerts run`: the dispatcher as a process of its own."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import structlog

from usageaudit.alerts.service import ALONE_SECONDS, AlertsService
from usageaudit.cli.masking import masked
from usageaudit.cli.serving import serving
from usageaudit.pipeline.activity import Activity
from usageaudit.scheduler.lease import SECONDS
from usageaudit.stores.address import EmbeddedAddress, parse_store_url
from usageaudit.stores.ledger import Ledger

if TYPE_CHECKING:
    from pathlib import Path

    from usageaudit.cli.settings import Settings
    from usageaudit.policy import Bundle


def run_alone(settings: Settings, path: Path) -> None:
    """Decide and deliver until SIGTERM or Ctrl-C; SIGHUP reads the file and the policies again."""
    activity = Activity(connected=True)  # it has no stream that could be away
    embedded = isinstance(parse_store_url(settings.store), EmbeddedAddress)
    with serving(settings, activity) as started, closing(started.store.another()) as own:
        ledger, policies = Ledger(own), started.policies

        def current() -> Bundle:
            activity.live()
            return policies.current(ledger).bundle

        service = AlertsService(path, own, current, lease_seconds=ALONE_SECONDS if embedded else SECONDS)
        started.operated.dispatching(service.state)
        started.reloads.append(service.request_reload)
        log = structlog.get_logger("usageaudit.alerts")
        log.info("dispatching", store=masked(settings.store), bundle=policies.bundle_hash)
        service.run(started.stop)
