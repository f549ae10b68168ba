"""Publishes to the embedded stream: appends a group of records in one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usageaudit.embedded_log import EmbeddedLog
from usageaudit.errors import StreamUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from usageaudit.embedded_log import NewRecord
    from usageaudit.publisher.complaints import Complaints
    from usageaudit.publisher.port import Unsent
    from usageaudit.stream_url import EmbeddedStreamAddress


class EmbeddedOutlet:
    """Appends to the file of an embedded stream, which it makes where it does not exist."""

    group_records = 200

    def __init__(self, address: EmbeddedStreamAddress, complaints: Complaints) -> None:
        self._address = address
        self._log: EmbeddedLog | None = None

    def ship(self, records: Sequence[NewRecord]) -> Sequence[Unsent | None]:
        """Append all of the records, or none."""
        if self._log is None:
            self._log = EmbeddedLog.open(self._address.directory)
        try:
            self._log.append(self._address.topic, records)
        except StreamUnavailable:
            self.close()  # the file may have been replaced: open it anew next time
            raise
        return [None] * len(records)

    def halt(self) -> None:
        """Do nothing: an append ends by itself, after SQLite's own time-out at the latest."""

    def close(self) -> None:
        """Close the file."""
        if self._log is not None:
            self._log.close()
            self._log = None

    def abandon(self) -> None:
        """Forget the file; the log closed it before the fork."""
        self._log = None
