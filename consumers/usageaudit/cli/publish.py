"""`usageaudit publish`."""

from __future__ import annotations

import functools
import sys
from collections import deque
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import IO, TYPE_CHECKING, Annotated, NamedTuple

import typer

from usageaudit.cli.options import StreamOption  # noqa: TC001  Typer reads the annotations
from usageaudit.cli.output import FormatOption, print_rows, print_text, say
from usageaudit.cli.settings import settings_of
from usageaudit.cli.text import printable
from usageaudit.cloudevents import MAX_RECORD_BYTES, STRUCTURED_HEADERS, decode, key_of, partition_key
from usageaudit.embedded_log import NewRecord
from usageaudit.errors import ConfigurationError, InvalidEvent, Problem, PublishError, QueueFull, StreamUnavailable
from usageaudit.publisher import RecordPublisher
from usageaudit.publisher.records import EXIT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from usageaudit.publisher.buffer import Done

FOUND_A_PROBLEM = 1
MAX_RAW_BYTES = 1024 * 1024
"""The longest line of --raw: about what Kafka takes by default."""
CHUNK = 64 * 1024
PROGRESS_LINES = 500
FIRST_SECONDS = 11.0
"""How long a stream that was never reached is tried: two attempts to connect to Kafka."""
LOOK_SECONDS = 0.25


@dataclass(slots=True)
class Tally:
    """What became of the lines; `refused` is filled by the publisher's thread."""

    bad: int = 0
    failed: int = 0
    refused: deque[tuple[int, PublishError]] = field(default_factory=deque)


class Patience:
    """Decides when to give the stream up: at once where trying again can't help, or when it was silent for too long."""

    def __init__(self, publisher: RecordPublisher, timeout: float) -> None:
        self.publisher, self._timeout = publisher, timeout
        self._settled, self._since = 0, monotonic()

    def check(self) -> None:
        """Raise StreamUnavailable or ConfigurationError where there is nothing to wait for any more."""
        counts = self.publisher.counts
        settled = counts.acknowledged + counts.failed
        if settled != self._settled or not counts.queued:
            self._settled, self._since = settled, monotonic()
        if (error := self.publisher.lasting_error) is not None:
            raise type(error)(f"{_unacknowledged(counts.queued)}: {error}") from error
        seconds = self._timeout if settled else min(self._timeout, FIRST_SECONDS)
        if monotonic() - self._since > seconds:
            reason = self.publisher.last_error or (
                f"the stream has acknowledged nothing for {seconds:g} s: is it up and reachable?"
            )
            raise StreamUnavailable(f"{_unacknowledged(counts.queued)}: {reason}")


def _unacknowledged(events: int) -> str:
    return "1 event was not acknowledged" if events == 1 else f"{events:,} events were not acknowledged"


class Line(NamedTuple):
    """A line of the input, from 1; `text` is without its end, None where it is longer than the limit."""

    number: int
    text: bytes | None
    position: int


def publish(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="Events, one a line; - is standard input.")],
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first bad line.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Publish the lines as they are, unchecked.")] = False,
    timeout: Annotated[
        float,
        typer.Option(
            min=0.1,
            help="Give up when the stream has acknowledged nothing for so many seconds; "
            f"after {FIRST_SECONDS:g} where it never has.",
        ),
    ] = 30.0,
    stream: StreamOption = None,
    format: FormatOption = None,  # noqa: A002
) -> None:
    """Publish events from a file or from standard input.

    Each line is a structured CloudEvent of JSON; its id is kept. A bad line is named with its number and what is wrong
    with it, and is not published; the others are, and the exit code is 1.
    """
    settings = settings_of(context, stream=stream)
    tally = Tally()
    with _input(file) as source:
        publisher = RecordPublisher(settings.stream)
        try:
            patience = Patience(publisher, timeout)
            _publish_lines(patience, source, tally, raw=raw, strict=strict)
            _finish(patience)
        except KeyboardInterrupt:
            publisher.flush(EXIT_SECONDS)
            raise
        finally:
            left = publisher.close(0.0)
            _name_refused(tally)
            _report(publisher.counts.acknowledged, tally, left, format)
    if tally.bad + tally.failed:
        raise typer.Exit(FOUND_A_PROBLEM)


def _publish_lines(patience: Patience, source: IO[bytes], tally: Tally, *, raw: bool, strict: bool) -> None:
    with _progress(source) as advance:
        for line in _lines(source, MAX_RAW_BYTES if raw else MAX_RECORD_BYTES):
            if line.number % PROGRESS_LINES == 0:
                advance(line.position, patience.publisher.counts.acknowledged)
            _publish_line(patience, line, tally, raw=raw)
            _name_refused(tally)
            if strict and tally.bad + tally.failed:
                return


def _publish_line(patience: Patience, line: Line, tally: Tally, *, raw: bool) -> None:
    try:
        record = _record(line, raw=raw)
    except InvalidEvent as error:
        tally.bad += 1
        say(printable(f"line {line.number}: {error}"))
        return
    if record is not None:
        _put(patience, record, functools.partial(_note, tally, line.number))


def _put(patience: Patience, record: NewRecord, done: Done) -> None:
    while True:
        patience.check()
        with suppress(QueueFull):
            return patience.publisher.put(record, done, wait=LOOK_SECONDS)


def _note(tally: Tally, number: int, error: PublishError | None) -> None:
    if error is not None:
        tally.refused.append((number, error))


def _name_refused(tally: Tally) -> None:
    while tally.refused:
        number, error = tally.refused.popleft()
        tally.failed += 1
        say(printable(f"line {number}: {error}"))


def _finish(patience: Patience) -> None:
    """Wait until everything is acknowledged, for as long as something still is from time to time."""
    while patience.publisher.flush(LOOK_SECONDS):
        patience.check()


def _report(acknowledged: int, tally: Tally, left: int, format: str | None) -> None:  # noqa: A002
    _columns = ("acknowledged", "bad", "refused", "not_acknowledged")
    if format is not None or not sys.stdout.isatty():
        print_rows(_columns, [(acknowledged, tally.bad, tally.failed, left)], format)
        return
    parts = [f"{acknowledged:,} events acknowledged"]
    parts += [f"{tally.bad:,} bad line{'' if tally.bad == 1 else 's'} not published"] if tally.bad else []
    parts += [f"{tally.failed:,} refused by the stream"] if tally.failed else []
    parts += [f"{left:,} not acknowledged, which may still have arrived"] if left else []
    print_text(", ".join(parts))


def _record(line: Line, *, raw: bool) -> NewRecord | None:
    """Return the record of a line, None for a blank one; raises InvalidEvent for a line that is no usage event."""
    if line.text is None:
        longest = MAX_RAW_BYTES if raw else MAX_RECORD_BYTES
        raise InvalidEvent([Problem("", f"is longer than {longest:,} bytes")])
    if raw:
        return NewRecord(key_of(line.text), line.text, STRUCTURED_HEADERS)
    value = line.text.strip()
    if not value:
        return None
    event = decode(value, STRUCTURED_HEADERS)
    key = key_of(value) if b'"partitionkey"' in value else None
    return NewRecord(key or partition_key(event.source, event.id), value, STRUCTURED_HEADERS)


@contextmanager
def _input(file: str) -> Iterator[IO[bytes]]:
    if file == "-":
        yield sys.stdin.buffer
        return
    try:
        with Path(file).open("rb") as opened:
            yield opened
    except OSError as error:
        raise ConfigurationError(f"{file}: can't be read: {error.strerror or error}") from error


def _lines(source: IO[bytes], longest: int) -> Iterator[Line]:
    """Yield the lines of the input, keeping no more of it in memory than one of them."""
    number = position = 0
    while text := source.readline(longest + 2):  # 2: a line of the longest length has an end, too
        number += 1
        position += len(text)
        whole = text.removesuffix(b"\n")
        if len(whole) <= longest:
            yield Line(number, whole, position)
            continue
        while text and not text.endswith(b"\n"):
            text = source.readline(CHUNK)
            position += len(text)
        yield Line(number, None, position)


@contextmanager
def _progress(source: IO[bytes]) -> Iterator[Callable[[int, int], None]]:
    """Show on a terminal how far it is; give a function that takes the position and the events acknowledged."""
    if not sys.stderr.isatty() or source is getattr(sys.stdin, "buffer", None):
        yield lambda _position, _acknowledged: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), TextColumn("{task.fields[acknowledged]:,} acknowledged"), TimeRemainingColumn())
    total = Path(str(source.name)).stat().st_size or None
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total, acknowledged=0)
        yield lambda position, done: progress.update(task, completed=position, acknowledged=done)
