"""`usageaudit up`, `usageaudit consume` and `usageaudit schedule`: the services."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer

from usageaudit.cli.masking import masked
from usageaudit.cli.options import PoliciesOption, StoreOption, StreamOption  # noqa: TC001  Typer reads the annotations
from usageaudit.cli.output import FormatOption, print_rows
from usageaudit.cli.settings import settings_of
from usageaudit.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from usageaudit.alerts.service import AlertsService
    from usageaudit.cli.settings import Settings
    from usageaudit.operating.watching import Watch
    from usageaudit.pipeline.activity import Counts
    from usageaudit.pipeline.policies import Policies
    from usageaudit.pipeline.service import ConsumerConfig
    from usageaudit.policy import Bundle
    from usageaudit.scheduler.service import SchedulerState
    from usageaudit.stores.port import Store


def up(
    context: typer.Context, stream: StreamOption = None, store: StoreOption = None, policies: PoliciesOption = None
) -> None:
    """Run everything there is in one process, on embedded data.

    Other commands, such as query and verify, ask this process through a socket beside the data. Ctrl-C ends it.
    """
    settings = settings_of(context, stream=stream, store=store, policies=policies)
    if not settings.store.startswith("embedded:"):
        raise ConfigurationError(
            "`usageaudit up` runs on embedded data, and the store is a server: run `usageaudit consume` instead"
        )
    _serve(settings, until_caught_up=False, everything=True)


def consume(
    context: typer.Context,
    until_caught_up: Annotated[
        bool, typer.Option("--until-caught-up", help="End at what was the end of the stream when this began.")
    ] = False,
    stream: StreamOption = None,
    store: StoreOption = None,
    policies: PoliciesOption = None,
    format: FormatOption = None,  # noqa: A002
) -> None:
    """Run the consumer: judge and record what is on the stream.

    SIGTERM and Ctrl-C end it cleanly, SIGHUP reads the policies again.
    """
    counts = _serve(
        settings_of(context, stream=stream, store=store, policies=policies), until_caught_up=until_caught_up
    )
    if until_caught_up:
        row = (counts.consumed, counts.accepted, counts.duplicates, counts.rejected)
        print_rows(("consumed", "accepted", "duplicates", "rejected"), [row], format)


def _serve(settings: Settings, *, until_caught_up: bool, everything: bool = False) -> Counts:
    import structlog

    from usageaudit.cli.access import hold, limits_of
    from usageaudit.cli.logs import configure_logging
    from usageaudit.cli.remote import QueryServer
    from usageaudit.operating.health import Health
    from usageaudit.operating.service import Operated
    from usageaudit.pipeline.activity import Activity
    from usageaudit.pipeline.policies import Policies
    from usageaudit.pipeline.service import run_consumer, stopping_on_signals
    from usageaudit.stores.address import EmbeddedAddress, parse_store_url
    from usageaudit.stores.migrate import migrate

    configure_logging(settings.log_level, settings.log_format)
    stop, activity, reload = Event(), Activity(), _Reload()
    operated = Operated(Health(activity, stop, settings.hung_seconds))
    with ExitStack() as stack:
        # First, since nothing but a handler lets SIGTERM end the first process of a container.
        stack.enter_context(stopping_on_signals(stop, reload.request))
        chosen = "http" in settings.model_fields_set
        if chosen or not until_caught_up:
            operated.listen(settings.http, chosen=chosen)
            stack.callback(operated.close)
        reload.policies = policies = Policies(settings.policies)
        store = hold(settings.store)
        stack.callback(store.close)
        migrate(store)
        address = parse_store_url(settings.store)
        if isinstance(address, EmbeddedAddress):
            stack.enter_context(QueryServer(address.directory, store, limits_of(settings)))
        operated.started(policies, stack.enter_context(watching(settings, store)))
        if everything:
            operated.scheduling(stack.enter_context(_scheduling(store, policies, stop)))
            if settings.alerts is not None:
                from usageaudit.alerts.service import ALONE_SECONDS, alerts_service

                alerts = alerts_service(
                    settings.alerts, store, lambda: policies.bundle, stop, lease_seconds=ALONE_SECONDS
                )
                reload.alerts = stack.enter_context(alerts)
                operated.dispatching(reload.alerts.state)
        structlog.get_logger("usageaudit").info(
            "recording", stream=masked(settings.stream), store=masked(settings.store), bundle=policies.bundle_hash
        )
        return run_consumer(
            _consumer_config(settings, until_caught_up=until_caught_up), store, policies, stop, activity
        )


def schedule(context: typer.Context, store: StoreOption = None, policies: PoliciesOption = None) -> None:
    """Run the windowed policies over what is recorded.

    It goes beside the consumers, in a process of its own. Of several schedulers of a store one leads, and another takes
    over where it ends. `usageaudit up` has one in it.

    SIGTERM and Ctrl-C end it cleanly, SIGHUP reads the policies again.
    """
    import structlog

    from usageaudit.cli.access import hold
    from usageaudit.cli.logs import configure_logging
    from usageaudit.operating.health import Health
    from usageaudit.operating.service import Operated
    from usageaudit.pipeline.activity import Activity
    from usageaudit.pipeline.policies import Policies
    from usageaudit.pipeline.service import stopping_on_signals
    from usageaudit.scheduler.running import run_scheduler
    from usageaudit.scheduler.service import SchedulerState
    from usageaudit.stores.ledger import Ledger
    from usageaudit.stores.migrate import migrate

    settings = settings_of(context, store=store, policies=policies)
    configure_logging(settings.log_level, settings.log_format)
    stop, reload, state = Event(), _Reload(), SchedulerState()
    activity = Activity(connected=True)  # it has no stream that could be away
    operated = Operated(Health(activity, stop, settings.hung_seconds))
    with ExitStack() as stack:
        stack.enter_context(stopping_on_signals(stop, reload.request))
        operated.listen(settings.http, chosen="http" in settings.model_fields_set)
        stack.callback(operated.close)
        reload.policies = loaded = Policies(settings.policies)
        opened = hold(settings.store)
        stack.callback(opened.close)
        migrate(opened)
        ledger = Ledger(opened)
        operated.started(loaded, stack.enter_context(watching(settings, opened)))
        operated.scheduling(state)
        structlog.get_logger("usageaudit").info(
            "scheduling", store=masked(settings.store), bundle=loaded.bundle_hash, rules=len(loaded.bundle.windowed)
        )

        def current() -> Bundle:
            activity.live()
            return loaded.current(ledger).bundle

        run_scheduler(opened, current, stop, state)


@contextmanager
def _scheduling(store: Store, policies: Policies, stop: Event) -> Iterator[SchedulerState]:
    """Run the windowed policies in force beside the consumer, in one of all the services of a store at a time."""
    from usageaudit.operating.beside import beside
    from usageaudit.scheduler.running import run_scheduler
    from usageaudit.scheduler.service import SchedulerState

    state, own = SchedulerState(), store.another()
    try:
        with beside("scheduler", lambda over: run_scheduler(own, lambda: policies.bundle, over, state), stop):
            yield state
    finally:
        own.close()


@dataclass(slots=True)
class _Reload:
    """Passes SIGHUP on to the policies, and to alerts, once there are some."""

    policies: Policies | None = None
    alerts: AlertsService | None = None

    def request(self) -> None:
        if self.policies is not None:
            self.policies.request_reload()
        if self.alerts is not None:
            self.alerts.request_reload()


def _consumer_config(settings: Settings, *, until_caught_up: bool) -> ConsumerConfig:
    from usageaudit.pipeline.rejections import RejectionLimit
    from usageaudit.pipeline.service import ConsumerConfig
    from usageaudit.streams.port import BatchLimits

    return ConsumerConfig(
        stream_url=settings.stream,
        limits=BatchLimits(settings.batch_records, settings.batch_bytes, settings.batch_seconds),
        until_caught_up=until_caught_up,
        rejections=RejectionLimit(settings.rejected_share, settings.rejected_window),
    )


def watching(settings: Settings, store: Store) -> Watch:
    """Return what looks after store, spools and disks of a service."""
    from usageaudit.operating.watching import Watch
    from usageaudit.stores.address import EmbeddedAddress, parse_store_url
    from usageaudit.stream_url import EmbeddedStreamAddress, parse_stream_url

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
    from usageaudit.publisher.spool.folder import named_folder

    try:
        return named_folder(setting)
    except ConfigurationError:
        if setting is None:  # a user without a home has no default folder
            return None
        raise
