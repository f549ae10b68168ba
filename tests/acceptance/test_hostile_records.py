"""Records that are no usage events, among records that are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.strategies import MINIMAL, envelope
from tests.unit.events.test_decoding import HOSTILE

if TYPE_CHECKING:
    from tests.acceptance.conftest import Pair

GOOD = 5


def _event(number: int) -> bytes:
    return json.dumps(envelope(MINIMAL, id=f"good-{number}")).encode()


def test_hostile_records_become_rejects_and_harm_nobody(pair: Pair) -> None:
    """Each broken record is a row of `rejects` with its reason and path; the events around it are accepted."""
    lines = {name: case for name, case in HOSTILE.items() if case[0] and case[0].strip()}
    raw = b"\n".join(part for value, _, _ in lines.values() for part in (value or b"", _event(0)))
    more = b"\n".join(_event(number) for number in range(GOOD))
    (pair.folder / "records.ndjson").write_bytes(more + b"\n" + raw + b"\n")
    pair.run("publish", "--raw", "records.ndjson")
    pair.consume()

    counts = pair.query("SELECT status, count() AS records FROM stream_records GROUP BY status ORDER BY status")
    assert {row["status"]: row["records"] for row in counts} == {
        "accepted": GOOD,
        "duplicate": len(lines),
        "rejected": len(lines),
    }
    rejects = pair.query("SELECT error, error_path, payload_bytes FROM rejects")
    for name, (value, path, message) in lines.items():
        assert any(
            message in row["error"] and row["error_path"].startswith(path) and row["payload_bytes"] == len(value or b"")
            for row in rejects
        ), name
    shown = pair.run("rejects", "list", "--format=ndjson")
    assert len(shown.splitlines()) == len(lines)
    pair.run("verify")
