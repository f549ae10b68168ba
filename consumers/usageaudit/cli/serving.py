"""What every service has: logs, signals, its port, the policies in force and a store that is up to date."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING

from usageaudit.cli.access import hold, limits_of
from usageaudit.cli.logs import configure_logging
from usageaudit.cli.remote import QueryServer
from usageaudit.errors import ConfigurationError
from usageaudit.operating.health import Health
from usageaudit.operating.service import Operated
from usageaudit.operating.watching import Watch
from usageaudit.pipeline.policies import Policies
from usageaudit.pipeline.service import stopping_on_signals
from usageaudit.publisher.spool.folder import named_folder
from usageaudit.stores.address import EmbeddedAddress, parse_store_url
from usageaudit.stores.migrate import migrate
from usageaudit.stream_url import EmbeddedStreamAddress, parse_stream_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from usageaudit.cli.settings import Settings
    from usageaudit.pipeline.activity import Activity
    from usageaudit.stores.port import Store


@dataclass(frozen=True, slots=True)
class Serving:
    """A service that has started. SIGTERM and Ctrl-C set `stop`, SIGHUP calls what is in `reloads`."""

    operated: Operated
    policies: Policies
    store: Store
    stop: Event
    reloads: list[Callable[[], None]] = field(default_factory=list)


@contextmanager
def serving(settings: Settings, activity: Activity, *, listens: bool = True) -> Iterator[Serving]:
    """Start a service, and end it with the block; other commands can ask its store where that is embedded.

    Without `listens` it answers over HTTP only where an address was chosen.
    """
    configure_logging(settings.log_level, settings.log_format)
    stop, reloads = Event(), list["Callable[[], None]"]()

    def reload() -> None:
        for one in reloads:
            one()

    operated = Operated(Health(activity, stop, settings.hung_seconds))
    with ExitStack() as stack:
        # First, since nothing but a handler lets SIGTERM end the first process of a container.
        stack.enter_context(stopping_on_signals(stop, reload))
        chosen = "http" in settings.model_fields_set
        if chosen or listens:
            operated.listen(settings.http, chosen=chosen)
            stack.callback(operated.close)
        policies = Policies(settings.policies)
        reloads.append(policies.request_reload)
        store = hold(settings.store)
        stack.callback(store.close)
        migrate(store)
        address = parse_store_url(settings.store)
        if isinstance(address, EmbeddedAddress):
            stack.enter_context(QueryServer(address.directory, store, limits_of(settings)))
        operated.started(policies, stack.enter_context(_watch(settings, store)))
        yield Serving(operated, policies, store, stop, reloads)


def _watch(settings: Settings, store: Store) -> Watch:
    spool = _spool(settings.spool)
    stream_address, store_address = parse_stream_url(settings.stream), parse_store_url(settings.store)
    folders = {
        "stream": stream_address.directory if isinstance(stream_address, EmbeddedStreamAddress) else None,
        "store": store_address.directory if isinstance(store_address, EmbeddedAddress) else None,
        "spool": spool,
    }
    there = {name: folder for name, folder in folders.items() if folder is not None}
    return Watch(store.another(), there, spool)


def _spool(setting: str | None) -> Path | None:
    try:
        return named_folder(setting)
    except ConfigurationError:
        if setting is None:  # a user without a home has no default folder
            return None
        raise
