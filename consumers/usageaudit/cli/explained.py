"""Events with what every policy says of them: those of a file, by a bundle, and those of the record, by their own."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from usageaudit.cloudevents import MAX_RECORD_BYTES, STRUCTURED_HEADERS, decode, decode_recorded
from usageaudit.errors import ConfigurationError, InvalidEvent, QueryError
from usageaudit.policy import bundle_from_archive, explain_event
from usageaudit.policy.explain import explain_windowed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usageaudit.cli.settings import Settings
    from usageaudit.cloudevents import DecodedEvent
    from usageaudit.policy import Bundle, PolicyExplanation
    from usageaudit.policy.explain import WindowExplanation
    from usageaudit.stores.port import Store

COUNTS = {True: "counts", False: "does not count", None: "left open"}
"""Whether an event counts for a policy that is decided over many, in words."""
_CHUNK = 64 * 1024
_EVENT = """SELECT raw, content_mode, toUnixTimestamp64Micro(event_time), toUnixTimestamp64Milli(record_time), bundle
FROM usage_events WHERE event_source = {source:String} AND event_id = {id:String} ORDER BY ingest_time"""
_BUNDLE = "SELECT archive FROM bundles WHERE hash = {hash:String}"


@dataclass(frozen=True, slots=True)
class Explained:
    """An event, what each policy says of it, and for which windowed policies it counts."""

    source: str
    event_id: str
    policies: tuple[PolicyExplanation, ...]
    windowed: tuple[WindowExplanation, ...]

    def rows(self) -> Iterator[tuple[object, ...]]:
        """Yield for each policy its id, version, verdict, missing fields, deciding parts and exception."""
        for one in self.policies:
            yield (one.policy_id, one.policy_version, one.verdict, one.missing_fields, one.deciding, one.exception_id)

    def window_rows(self) -> Iterator[tuple[object, ...]]:
        """Yield for each windowed policy the same, with whether the event counts in place of a verdict."""
        for one in self.windowed:
            yield (
                *(one.policy_id, one.policy_version, COUNTS[one.counts]),
                *(one.missing_fields, one.deciding, one.exception_id),
            )


def explain_lines(file: str, bundle: Bundle, bad: list[str]) -> Iterator[Explained]:
    """Yield the explanation of each event of a file; what is wrong with a bad line goes to `bad`."""
    with _opened(file) as stream:
        for number, line in enumerate(_lines(stream), 1):
            if line is not None and not line.strip():
                continue
            try:
                event = decode(line, STRUCTURED_HEADERS) if line is not None else None
            except InvalidEvent as error:
                bad.append(f"line {number}: {error}")
                continue
            if event is None:
                bad.append(f"line {number}: is longer than {MAX_RECORD_BYTES:,} bytes")
            else:
                yield _explain(bundle, event, None)


def explain_recorded(settings: Settings, source: str, event_id: str) -> Iterator[Explained]:
    """Yield the explanation of a recorded event by the bundle that judged it, kept in the store.

    An id that was published with different times has several events, each explained on its own.
    """
    from usageaudit.cli.access import explaining_missing_tables, reading

    with reading(settings) as store, explaining_missing_tables(store):
        rows = store.execute(_EVENT, {"source": source, "id": event_id}).rows
        if not rows:
            raise QueryError(f"no accepted event has the source {source} and the id {event_id}")
        for raw, mode, time, record_time, bundle_hash in rows:
            value = raw.encode() if isinstance(raw, str) else raw
            event = decode_recorded(value, mode, source, event_id, time)
            yield _explain(_bundle(store, bundle_hash), event, None if record_time is None else record_time * 1000)


def _bundle(store: Store, bundle_hash: str) -> Bundle:
    rows = store.execute(_BUNDLE, {"hash": bundle_hash}).rows
    if not rows:
        raise QueryError(f"the bundle {bundle_hash}, which judged the event, is not in the store")
    archive = rows[0][0]
    return bundle_from_archive(archive.encode() if isinstance(archive, str) else archive)


def _explain(bundle: Bundle, event: DecodedEvent, record_time: int | None) -> Explained:
    found = explain_event(bundle, event.data, event.time, record_time, event.source, event.id)
    counted = explain_windowed(bundle, event.data, event.time, record_time, event.source, event.id)
    return Explained(event.source, event.id, found, counted)


@contextmanager
def _opened(file: str) -> Iterator[IO[bytes]]:
    if file == "-":
        yield sys.stdin.buffer
        return
    try:
        stream = Path(file).open("rb")  # noqa: SIM115  closed below; only the opening is watched
    except OSError as error:
        raise ConfigurationError(f"{file}: can't be read: {error.strerror or error}") from error
    with stream:
        yield stream


def _lines(stream: IO[bytes]) -> Iterator[bytes | None]:
    """Yield the lines, None for one that is too long to be an event, of which no more than that is kept."""
    while line := stream.readline(MAX_RECORD_BYTES + 2):
        whole = line.removesuffix(b"\n")
        if len(whole) <= MAX_RECORD_BYTES:
            yield whole
            continue
        while line and not line.endswith(b"\n"):
            line = stream.readline(_CHUNK)
        yield None
