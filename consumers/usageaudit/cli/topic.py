"""`usageaudit topic`: the topic that events are published to: create it, check its settings, see how far behind."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from usageaudit.cli.examples import examples
from usageaudit.cli.options import StreamOption  # noqa: TC001  Typer reads the annotations
from usageaudit.cli.output import FormatOption, print_rows, say
from usageaudit.cli.settings import settings_of
from usageaudit.errors import ConfigurationError
from usageaudit.stream_url import KafkaStreamAddress, parse_stream_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usageaudit.streams.inspection import Bounds
    from usageaudit.streams.topic_checks import TopicCheck

DAY_MS = 24 * 3600 * 1000

topic_app = typer.Typer(no_args_is_help=True)


@topic_app.callback()
def _topic() -> None:
    """Create and check the topic of events, and see how far behind its consumers are."""


@topic_app.command(epilog=examples("usageaudit topic create", "usageaudit topic create --partitions 24 --days 30"))
def create(
    context: typer.Context,
    partitions: Annotated[int, typer.Option(min=1, max=10_000, help="Most consumers that can share the work.")] = 12,
    replication: Annotated[int, typer.Option(min=1, max=32, help="Brokers that keep each event.")] = 3,
    in_sync: Annotated[
        int | None,
        typer.Option(min=1, max=32, help="Of them, how many must have it before it counts; by default all but one."),
    ] = None,
    days: Annotated[float, typer.Option(min=0.01, max=36_500, help="How long events are kept.")] = 14,
    stream: StreamOption = None,
    format: FormatOption = None,  # noqa: A002
) -> None:
    """Create the topic with the settings that an audit log needs.

    A topic that exists is left as it is; `usageaudit topic check` says what is wrong with it.
    """
    from usageaudit.streams.kafka_topics import KafkaTopics, TopicPlan

    address = _kafka(settings_of(context, stream=stream).stream)
    if in_sync is not None and in_sync > replication:
        raise ConfigurationError(f"--in-sync {in_sync} of --replication {replication}: nothing could be published")
    plan = TopicPlan(partitions, replication, in_sync, round(days * DAY_MS))
    topics = KafkaTopics(address)
    try:
        created = topics.create(plan)
    finally:
        topics.close()
    if not created:
        say(f"topic {address.topic} is there already, and was left as it is; check it with `usageaudit topic check`")
        return
    settings = {"partitions": partitions, "replication": replication, **plan.settings}
    print_rows(("setting", "value"), [(name, str(value)) for name, value in settings.items()], format)


@topic_app.command(epilog=examples("usageaudit topic check"))
def check(context: typer.Context, stream: StreamOption = None, format: FormatOption = None) -> None:  # noqa: A002
    """Check that the topic keeps what it is given, and for long enough.

    The exit code is 1 where something fails; warnings leave it at 0.
    """
    found = list(topic_checks(_kafka(settings_of(context, stream=stream).stream)))
    print_rows(("check", "status", "found", "todo"), [(c.name, c.status, c.found, c.todo) for c in found], format)
    if any(one.status == "fail" for one in found):
        raise typer.Exit(1)


@topic_app.command(epilog=examples("usageaudit topic lag", "usageaudit topic lag --format json"))
def lag(context: typer.Context, stream: StreamOption = None, format: FormatOption = None) -> None:  # noqa: A002
    """Show for each partition how many records the group of the stream's URL has not recorded yet.

    `lost` are those that the stream deleted before they were read. The exit code is 1 where there are any.
    """
    from usageaudit.streams.inspection import inspect

    looked_at = inspect(settings_of(context, stream=stream).stream)
    try:
        bounds = looked_at.bounds()
    finally:
        looked_at.close()
    columns = ("topic", "partition", "begin", "committed", "end", "lag", "lost")
    rows = [(looked_at.topic, b.number, b.begin, b.committed, b.end, behind(b), lost(b)) for b in bounds]
    print_rows(columns, rows, format)
    if any(lost(one) for one in bounds):
        raise typer.Exit(1)


def topic_checks(address: KafkaStreamAddress) -> Iterator[TopicCheck]:
    """Yield what there is to say about a topic. Raises StreamUnavailable."""
    from usageaudit.streams.kafka_topics import KafkaTopics
    from usageaudit.streams.topic_checks import check_topic

    topics = KafkaTopics(address)
    try:
        state = topics.state()
    finally:
        topics.close()
    yield from check_topic(state, time.time_ns() // 1_000_000)


def behind(bounds: Bounds) -> int:
    """Return how many offsets the group has before it."""
    return max(0, bounds.end - max(bounds.begin, bounds.committed or 0))


def lost(bounds: Bounds) -> int:
    """Return how many offsets the stream deleted before the group acknowledged them."""
    return 0 if bounds.committed is None else max(0, bounds.begin - bounds.committed)


def _kafka(url: str) -> KafkaStreamAddress:
    address = parse_stream_url(url)
    if not isinstance(address, KafkaStreamAddress):
        raise ConfigurationError(f"{address} is a file: its topic needs no creation, and has no settings to check")
    return address
