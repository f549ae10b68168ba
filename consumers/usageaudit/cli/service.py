"""`usageaudit up` and `usageaudit consume`: the consumer as a service."""

from __future__ import annotations

from contextlib import ExitStack
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer

from usageaudit.cli.masking import masked
from usageaudit.cli.options import PoliciesOption, StoreOption, StreamOption  # noqa: TC001  Typer reads the annotations
from usageaudit.cli.output import FormatOption, print_rows
from usageaudit.cli.settings import settings_of
from usageaudit.errors import ConfigurationError

if TYPE_CHECKING:
    from usageaudit.cli.settings import Settings
    from usageaudit.pipeline.activity import Counts


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
    _serve(settings, until_caught_up=False)


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


def _serve(settings: Settings, *, until_caught_up: bool) -> Counts:
    import structlog

    from usageaudit.cli.access import hold, limits_of
    from usageaudit.cli.logs import configure_logging
    from usageaudit.cli.remote import QueryServer
    from usageaudit.pipeline.policies import Policies
    from usageaudit.pipeline.service import ConsumerConfig, run_consumer, stopping_on_signals
    from usageaudit.stores.address import EmbeddedAddress, parse_store_url
    from usageaudit.stores.migrate import migrate
    from usageaudit.streams.port import BatchLimits

    configure_logging(settings.log_level, settings.log_format)
    stop = Event()
    policies = Policies(settings.policies)
    config = ConsumerConfig(
        stream_url=settings.stream,
        limits=BatchLimits(settings.batch_records, settings.batch_bytes, settings.batch_seconds),
        until_caught_up=until_caught_up,
    )
    with ExitStack() as stack:
        stack.enter_context(stopping_on_signals(stop, policies.request_reload))
        store = hold(settings.store)
        stack.callback(store.close)
        migrate(store)
        address = parse_store_url(settings.store)
        if isinstance(address, EmbeddedAddress):
            stack.enter_context(QueryServer(address.directory, store, limits_of(settings)))
        structlog.get_logger("usageaudit").info(
            "recording", stream=masked(settings.stream), store=masked(settings.store)
        )
        return run_consumer(config, store, policies, stop)
