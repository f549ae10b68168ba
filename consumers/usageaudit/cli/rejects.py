"""`usageaudit rejects`: records that could not be decoded, and the bytes that were kept of them."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from usageaudit.cli.access import explaining_missing_tables, limits_of, reading
from usageaudit.cli.examples import examples
from usageaudit.cli.options import StoreOption, StreamOption  # noqa: TC001  Typer reads the annotations
from usageaudit.cli.output import FormatOption, print_rows, print_text
from usageaudit.cli.settings import settings_of
from usageaudit.cli.text import printable
from usageaudit.cli.values import text_of
from usageaudit.errors import QueryError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from usageaudit.cli.settings import Settings
    from usageaudit.stores.port import Rows

TIME_FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ"]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

rejects_app = typer.Typer(no_args_is_help=True)


def _kept_once(where: str) -> str:
    """Return what was kept of some records, once: of two copies, as after a takeover, the one with headers.

    Older versions kept none. The condition stands here because a join would read the bytes of all records.
    """
    return f"""(
        SELECT stream, topic, partition, offset, payload, header_names,
            arrayMap(value -> hex(value), header_values) AS hex_values, 1 AS kept
        FROM rejected_payloads WHERE {where}
        ORDER BY length(header_names) DESC LIMIT 1 BY stream, topic, partition, offset)"""


# Placeholders are not called limit or offset: ClickHouse takes those for its settings of these names.
_LIST = """SELECT ingest_time, topic, partition, offset, payload_bytes, error_path, error FROM rejects
WHERE ingest_time >= {since:DateTime64(3, 'UTC')} ORDER BY ingest_time DESC, offset DESC LIMIT {rows:UInt32}"""
_SHOW = f"""SELECT r.ingest_time AS ingest_time, r.stream AS stream, r.topic AS topic, r.partition AS partition,
    r.offset AS offset, r.payload_bytes AS payload_bytes, r.error_path AS error_path, r.error AS error,
    arrayMap((name, value) -> (name, value), p.header_names, p.hex_values) AS headers,
    if(p.kept, hex(p.payload), NULL) AS payload
FROM rejects AS r
LEFT JOIN {_kept_once("partition = {partition:UInt32} AND `offset` = {place:UInt64}")} AS p
    ON p.stream = r.stream AND p.topic = r.topic AND p.partition = r.partition AND p.offset = r.offset
WHERE r.partition = {{partition:UInt32}} AND r.offset = {{place:UInt64}}
    AND ({{topic:String}} = '' OR r.topic = {{topic:String}})
ORDER BY r.ingest_time DESC LIMIT 1"""

_KEPT = f"""SELECT concat(r.stream, '/', r.topic, '/', toString(r.partition), '/', toString(r.offset)) AS place,
    hex(p.payload) AS payload, p.header_names, p.hex_values
FROM rejects AS r
INNER JOIN {_kept_once("stream = {stream:String} AND topic = {topic:String}")} AS p
    ON p.stream = r.stream AND p.topic = r.topic AND p.partition = r.partition AND p.offset = r.offset
WHERE r.stream = {{stream:String}} AND r.topic = {{topic:String}} AND r.ingest_time >= {{since:DateTime64(3, 'UTC')}}
ORDER BY r.ingest_time, r.partition, r.offset LIMIT {{rows:UInt32}}"""


@rejects_app.callback()
def _rejects() -> None:
    """Look at records that could not be decoded."""


@rejects_app.command("list", epilog=examples("usageaudit rejects list", "usageaudit rejects list --since 2026-11-01"))
def list_(
    context: typer.Context,
    since: Annotated[
        datetime, typer.Option(metavar="TIME", formats=TIME_FORMATS, help="Only those recorded from then on, UTC.")
    ] = _EPOCH,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="Rows at most, the latest first.")] = 50,
    store: StoreOption = None,
    format: FormatOption = None,  # noqa: A002
) -> None:
    """List rejected records, the latest first, each with what is wrong with it."""
    found = _ask(settings_of(context, store=store), _LIST, {"since": since.replace(tzinfo=UTC), "rows": limit})
    print_rows(found.columns, found.rows, format)


@rejects_app.command(
    "show", epilog=examples("usageaudit rejects show 0 1234", "usageaudit rejects show 0 1234 --raw > record.bin")
)
def show(
    context: typer.Context,
    partition: Annotated[int, typer.Argument(min=0)],
    offset: Annotated[int, typer.Argument(min=0)],
    topic: Annotated[str, typer.Option(help="Topic of the record, where there are several.")] = "",
    raw: Annotated[
        bool, typer.Option("--raw", help="Write the bytes of the record as they were, and nothing else.")
    ] = False,
    store: StoreOption = None,
    format: FormatOption = None,  # noqa: A002
) -> None:
    """Print a rejected record: what is wrong with it, and its bytes as long as they are kept.

    Where several streams or topics had one there, it is the latest.

    The bytes may be anything: without --raw they are printed with control characters escaped.
    """
    place = {"partition": partition, "place": offset, "topic": topic}
    found = _ask(settings_of(context, store=store), _SHOW, place)
    if not found.rows:
        raise QueryError(f"no rejected record at partition {partition}, offset {offset}; see `usageaudit rejects list`")
    row = dict(zip(found.columns, found.rows[0], strict=True))
    payload = None if row["payload"] is None else bytes.fromhex(row["payload"])
    if raw:
        if payload is None:
            raise QueryError("the bytes of this record are no longer kept")
        sys.stdout.buffer.write(payload)
    elif format is None and sys.stdout.isatty():
        _print_readably(row, payload)
    else:
        row["headers"] = _headers(row["headers"])
        row["payload"] = None if payload is None else payload.decode("utf-8", "backslashreplace")
        print_rows(tuple(row), [tuple(row.values())], format)


@rejects_app.command(
    "replay", epilog=examples("usageaudit rejects replay --since 2026-11-01", "usageaudit rejects replay --stream URL")
)
def replay(
    context: typer.Context,
    since: Annotated[
        datetime, typer.Option(metavar="TIME", formats=TIME_FORMATS, help="Only those recorded from then on, UTC.")
    ] = _EPOCH,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="Records at most, the oldest first.")] = 10_000,
    stream: StreamOption = None,
    store: StoreOption = None,
    format: FormatOption = None,  # noqa: A002
) -> None:
    """Publish rejected records again that can be decoded by now, after a correction.

    Each becomes a new record with a header that names the old one; what was accepted already becomes a duplicate. The
    exit code is 1 where some still can't be decoded, which are not published.

    Left out are records of another topic or stream, and those whose bytes are no longer kept. Of records in binary mode
    headers say half of the event: those that were refused before headers were kept can't be published again.
    """
    from usageaudit.cli.replaying import publish_again
    from usageaudit.streams.inspection import inspect

    settings = settings_of(context, stream=stream, store=store)
    looked_at = inspect(settings.stream)
    place = {"stream": looked_at.identity, "topic": looked_at.topic}
    looked_at.close()
    found = _ask(settings, _KEPT, {**place, "since": since.replace(tzinfo=UTC), "rows": limit})
    done, refused = publish_again(settings.stream, found.rows)
    print_rows(("published", "still_rejected"), [(done, refused)], format)
    if refused:
        raise typer.Exit(1)


def _print_readably(row: Mapping[str, Any], payload: bytes | None) -> None:
    lines = [
        f"{name}: {printable(text_of(value))}" for name, value in row.items() if name not in ("payload", "headers")
    ]
    lines += [f"header {printable(one)}" for one in _headers(row["headers"])]
    if payload is None:
        lines.append("its bytes are no longer kept")
    else:
        lines += ["", printable(payload.decode("utf-8", "backslashreplace"), keep="\n\t")]
    print_text("\n".join(lines))


def _headers(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Return headers, given as names with values in hex, as `name: value`."""
    return [f"{name}: {bytes.fromhex(value).decode('utf-8', 'backslashreplace')}" for name, value in pairs]


def _ask(settings: Settings, sql: str, parameters: Mapping[str, Any]) -> Rows:
    with reading(settings) as store, explaining_missing_tables(store):
        return store.query(sql, parameters, limits_of(settings))
