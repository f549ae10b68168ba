"""Ships the spools that dead owners left, for a person who asks for it."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from usageaudit.publisher.adapter import adapter
from usageaudit.publisher.complaints import Complaints
from usageaudit.publisher.records import MAX_SPOOL_BYTES
from usageaudit.publisher.sender import Sender
from usageaudit.publisher.spool.source import SpoolSource

if TYPE_CHECKING:
    from pathlib import Path

    from usageaudit.stream_url import StreamAddress

LOOK_SECONDS = 0.1
STOP_SECONDS = 10.0


def drain(folder: Path, address: StreamAddress, stream: str | None, timeout: float) -> tuple[int, int, str]:
    """Ship the spools of a stream that have no owner, of all streams for None.

    Gives up when nothing was acknowledged for `timeout` seconds. Returns how many events were acknowledged, how many of
    those taken over were not and stay, and why the stream did not take them.
    """
    complaints = Complaints()
    source = SpoolSource(folder, stream, MAX_SPOOL_BYTES, complaints, draining=True)
    sender = Sender(source, adapter(address)(complaints), 0.0, complaints)
    sender.start()
    last, since = (0, 0), monotonic()
    while sender.alive and monotonic() - since < timeout:
        if (now := (source.adopted, source.pending)) != last:
            last, since = now, monotonic()
        sender.join(LOOK_SECONDS)
    error = sender.last_error or (f"the broker acknowledged nothing for {timeout:g} s" if sender.alive else "")
    sender.stop(STOP_SECONDS)
    source.release()
    return source.shipped, source.adopted - source.shipped, error
