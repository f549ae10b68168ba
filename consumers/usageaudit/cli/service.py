"""`usageaudit up`, `usageaudit consume` and `usageaudit schedule`: the services."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from usageaudit.cli.masking import masked
from usageaudit.cli.options import PoliciesOption, StoreOption, StreamOption  # noqa: TC001  Typer reads the annotations
from usageaudit.cli.output import FormatOption, print_rows
from usageaudit.cli.settings import settings_of
from usageaudit.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from threading import Event

    from usageaudit.cli.settings import Settings
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

    from usageaudit.cli.serving import serving
    from usageaudit.pipeline.activity import Activity
    from usageaudit.pipeline.service import run_consumer

    activity = Activity()
    with ExitStack() as stack:
        service = stack.enter_context(serving(settings, activity, listens=not until_caught_up))
        store, policies, stop = service.store, service.policies, service.stop
        if everything:
            service.operated.scheduling(stack.enter_context(_scheduling(store, policies, stop)))
            if settings.alerts is not None:
                from usageaudit.alerts.service import ALONE_SECONDS, alerts_service

                alerts = stack.enter_context(
                    alerts_service(settings.alerts, store, lambda: policies.bundle, stop, lease_seconds=ALONE_SECONDS)
                )
                service.reloads.append(alerts.request_reload)
                service.operated.dispatching(alerts.state)
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

    from usageaudit.cli.serving import serving
    from usageaudit.pipeline.activity import Activity
    from usageaudit.scheduler.running import run_scheduler
    from usageaudit.scheduler.service import SchedulerState
    from usageaudit.stores.ledger import Ledger

    settings = settings_of(context, store=store, policies=policies)
    state, activity = SchedulerState(), Activity(connected=True)  # it has no stream that could be away
    with serving(settings, activity) as service:
        ledger, loaded = Ledger(service.store), service.policies
        service.operated.scheduling(state)
        structlog.get_logger("usageaudit").info(
            "scheduling", store=masked(settings.store), bundle=loaded.bundle_hash, rules=len(loaded.bundle.windowed)
        )

        def current() -> Bundle:
            activity.live()
            return loaded.current(ledger).bundle

        run_scheduler(service.store, current, service.stop, state)


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
