"""`usageaudit doctor`."""

from __future__ import annotations

import importlib
import shutil
import sys
import textwrap
import time
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Literal

import typer

from usageaudit.cli.masking import masked
from usageaudit.cli.options import PoliciesOption, StoreOption, StreamOption  # noqa: TC001  Typer reads the annotations
from usageaudit.cli.output import FormatOption, print_rows, print_text
from usageaudit.cli.settings import settings_of
from usageaudit.cli.text import printable
from usageaudit.errors import BundleError, ConfigurationError, QueryError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from usageaudit.cli.settings import Settings
    from usageaudit.stores.port import Store
    from usageaudit.stream_url import KafkaStreamAddress, StreamAddress
    from usageaudit.streams.inspection import Bounds

Status = Literal["ok", "warn", "fail", "unreachable"]

MOST_SKEW_SECONDS = 5.0
LITTLE_DISK, HARDLY_ANY_DISK = 1024**3, 100 * 1024**2
_FIRST_SANE_TIME = 1_735_689_600.0
"""The first of January 2025: a clock that says less was never set."""


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check, and what to do about it."""

    name: str
    status: Status
    found: str
    todo: str = ""


def doctor(
    context: typer.Context,
    stream: StreamOption = None,
    store: StoreOption = None,
    policies: PoliciesOption = None,
    format: FormatOption = None,  # noqa: A002
) -> None:
    """Check that every configured part works.

    Each line says what was found and what to do. The exit code is 1 where something fails, 3 where a server is out of
    reach; warnings leave it at 0.
    """
    settings = settings_of(context, stream=stream, store=store, policies=policies)
    checks = list(_checks(settings))
    if format is None and sys.stdout.isatty():
        print_text("\n".join(line for check in checks for line in _lines(check)))
    else:
        print_rows(("check", "status", "found", "todo"), [(c.name, c.status, c.found, c.todo) for c in checks], format)
    statuses = {check.status for check in checks}
    if "unreachable" in statuses:
        raise typer.Exit(3)
    if "fail" in statuses:
        raise typer.Exit(1)


def _lines(check: Check) -> Iterator[str]:
    """Yield a check as lines for a terminal: status, name, what was found, and below it what to do."""
    margin = " " * 26
    room = max(30, shutil.get_terminal_size().columns - len(margin))
    found = textwrap.wrap(printable(check.found), room) or [""]
    yield f"{check.status:12}{check.name:13} {found[0]}"
    yield from (margin + line for line in found[1:])
    if check.todo:
        first, *others = textwrap.wrap(f"→ {printable(check.todo)}", room)
        yield margin + first
        yield from (f"{margin}  {line}" for line in others)


def _checks(settings: Settings) -> Iterator[Check]:
    yield Check("usageaudit", "ok", f"version {version('usageaudit')}, Python {sys.version.split()[0]}")
    yield from _packages(settings)
    yield _clock()
    yield _policies(settings)
    yield from _stream(settings)
    yield from _store(settings)
    yield from _disks(settings)


def _packages(settings: Settings) -> Iterator[Check]:
    """Check that what the two URLs need is installed."""
    needed = [("re2", "cli"), ("yaml", "cli")]
    needed.append(("chdb", "embedded") if settings.store.startswith("embedded:") else ("clickhouse_driver", "consumer"))
    for module, extra in needed:
        try:
            importlib.import_module("chdb._chdb" if module == "chdb" else module)
        except ImportError as error:
            yield Check(module, "fail", str(error), f"pip install 'usageaudit[{extra}]'")
        else:
            yield Check(module, "ok", "installed")


def _clock() -> Check:
    now = time.time()
    found = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    if now < _FIRST_SANE_TIME:
        return Check("clock", "fail", found, "set the clock of this machine (chrony or systemd-timesyncd)")
    return Check("clock", "ok", found)


def _policies(settings: Settings) -> Check:
    from usageaudit.policy import load_bundle

    try:
        bundle = load_bundle(settings.policies)
    except BundleError as error:
        return Check("policies", "fail", str(error), "correct the policies; `usageaudit policy check` shows the places")
    return Check(
        "policies", "ok", f"{len(bundle.policies)} of {', '.join(settings.policies)}, bundle {bundle.hash[:12]}"
    )


def _stream(settings: Settings) -> Iterator[Check]:
    from usageaudit.stream_url import EmbeddedStreamAddress, KafkaStreamAddress, parse_stream_url
    from usageaudit.streams.inspection import inspect

    address = parse_stream_url(settings.stream)
    if isinstance(address, EmbeddedStreamAddress) and not address.directory.is_dir():
        yield Check("stream", "warn", f"{address.directory} is not there yet", "publish an event: it is made then")
        return
    try:
        looked_at = inspect(settings.stream)
        try:
            bounds = looked_at.bounds()
        finally:
            looked_at.close()
    except Unavailable as error:
        yield _unreachable_stream(error, embedded=isinstance(address, EmbeddedStreamAddress))
        return
    yield from _read_so_far(address, looked_at.topic, bounds)
    if isinstance(address, KafkaStreamAddress):
        yield from _topic(address)


def _read_so_far(address: StreamAddress, topic: str, bounds: Sequence[Bounds]) -> Iterator[Check]:
    from usageaudit.cli.topic import behind, lost

    records = sum(one.end - one.begin for one in bounds)
    yield Check("stream", "ok", f"{address}, topic {topic}: {len(bounds)} partitions, {records:,} records")
    waiting = sum(map(behind, bounds))
    todo = "start the consumer: `usageaudit consume`, or `usageaudit up`" if waiting else ""
    found = f"group {address.group}: {waiting:,} records wait" if waiting else f"group {address.group} has read it all"
    yield Check("consumer", "warn" if waiting else "ok", found, todo)
    if gone := [one for one in bounds if lost(one)]:
        first = gone[0]
        found = f"{sum(map(lost, gone)):,} records were deleted before group {address.group} read them, the first are "
        found += f"offsets {first.committed} to {first.begin - 1} of {topic}[{first.number}]"
        todo = "start the consumer, which notes the ranges as findings, and keep records longer (retention.ms)"
        yield Check("retention", "fail", found, todo)


def _topic(address: KafkaStreamAddress) -> Iterator[Check]:
    from usageaudit.cli.topic import topic_checks

    try:
        for one in topic_checks(address):
            yield Check(f"topic {one.name}", one.status, one.found, one.todo)
    except Unavailable as error:
        yield Check("topic", "warn", str(error), "see what this login may do; `usageaudit topic check` says it again")


def _unreachable_stream(error: Unavailable, *, embedded: bool) -> Check:
    if embedded:
        return Check("stream", "warn", str(error), "publish an event: the stream is made then")
    return Check("stream", "unreachable", str(error), "start the broker, create the topic, or name another stream")


def _store(settings: Settings) -> Iterator[Check]:
    from usageaudit.cli.access import reading

    where = masked(settings.store)
    try:
        with reading(settings) as store:
            yield from _opened_store(store, where)
    except ConfigurationError as error:
        yield Check("store", "warn", str(error), "the consumer makes it when it starts")
    except Unavailable as error:
        yield Check("store", "unreachable", str(error), "start the server, or correct USAGEAUDIT_STORE")
    except QueryError as error:
        yield Check("store", "fail", str(error), "see what this login may do: it needs to read the database")


def _opened_store(store: Store, where: str) -> Iterator[Check]:
    from usageaudit.stores.migrate import newer, pending

    before = time.time()
    ((engine, micros),) = store.execute("SELECT version(), toUnixTimestamp64Micro(now64(6))").rows
    skew = int(micros) / 1e6 - (before + time.time()) / 2
    yield Check("store", "ok", f"{where}, engine {engine}")
    if abs(skew) > MOST_SKEW_SECONDS:
        todo = "set both clocks (chrony or systemd-timesyncd): verdicts and partitions go by time"
        yield Check("store clock", "fail", f"{skew:+.1f} s from this machine", todo)
    else:
        yield Check("store clock", "ok", f"{skew:+.1f} s from this machine")
    if lacking := pending(store):
        names = ", ".join(one.name for one in lacking)
        yield Check(
            "migrations", "warn", f"pending: {names}", "`usageaudit migrate`; the consumer does it at its start"
        )
    elif later := newer(store):
        found = f"all applied, and by a later version {', '.join(later)}"
        yield Check("migrations", "ok", found, "install that version here, too; this one goes on meanwhile")
    else:
        yield Check("migrations", "ok", "all applied")


def _disks(settings: Settings) -> Iterator[Check]:
    from usageaudit.stores.address import EmbeddedAddress, parse_store_url
    from usageaudit.stream_url import EmbeddedStreamAddress, parse_stream_url

    folders = [
        address.directory
        for address in (parse_stream_url(settings.stream), parse_store_url(settings.store))
        if isinstance(address, EmbeddedStreamAddress | EmbeddedAddress)
    ]
    for folder in dict.fromkeys(folders):
        yield _disk(folder)


def _disk(folder: Path) -> Check:
    there = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.is_dir())
    free = shutil.disk_usage(there).free
    found = f"{free / 1024**3:,.1f} GiB free in {folder}"
    if free < HARDLY_ANY_DISK:
        return Check("disk", "fail", found, "make room now: publishers and the consumer are about to stop")
    return Check("disk", "warn" if free < LITTLE_DISK else "ok", found, "make room" if free < LITTLE_DISK else "")
