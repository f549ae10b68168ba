"""An hour of real traffic: 28,000 requests with their token counts, published, consumed and added up again."""

from __future__ import annotations

import csv
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests.strategies import envelope

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.acceptance.conftest import Pair

SERVICES = ("code", "conv")


@pytest.fixture(scope="module")
def requests(test_data: Path) -> list[tuple[str, str, int, int]]:
    """Return service, time, input and output tokens of every request."""
    return [
        (service, row["TIMESTAMP"].replace(" ", "T") + "Z", int(row["ContextTokens"]), int(row["GeneratedTokens"]))
        for service in SERVICES
        for row in csv.DictReader((test_data / f"azure_llm_trace_2023_{service}.csv").read_text().splitlines())
    ]


def _lines(requests: list[tuple[str, str, int, int]]) -> Iterator[str]:
    for number, (service, time, tokens_in, tokens_out) in enumerate(requests):
        data = {
            "operation": "chat",
            "model": {"provider": "azure.ai.openai", "name": "gpt-4"},
            "actor": {"id": "u-1"},
            "application": {"name": service},
            "usage": {"input_tokens": tokens_in, "output_tokens": tokens_out},
            "outcome": {"status": "ok"},
        }
        yield json.dumps(envelope(data, id=f"{service}-{number}", source=f"//trace/{service}", time=time)) + "\n"


def _sums(requests: list[tuple[str, str, int, int]], digits: int) -> dict[tuple[str, str], tuple[int, int, int]]:
    """Return events and tokens by service and by the first so many characters of the time."""
    sums: Counter[tuple[str, str, str]] = Counter()
    for service, time, tokens_in, tokens_out in requests:
        key = service, time[:digits]
        sums[*key, "events"] += 1
        sums[*key, "in"] += tokens_in
        sums[*key, "out"] += tokens_out
    keys = {key[:2] for key in sums}
    return {key: (sums[*key, "events"], sums[*key, "in"], sums[*key, "out"]) for key in keys}


def _aggregate(pair: Pair, sql: str, digits: int) -> dict[tuple[str, str], tuple[int, int, int]]:
    rows: list[dict[str, Any]] = pair.query(sql)
    return {
        (row["application_name"], row["period"][:digits]): (row["n"], row["tokens_in"], row["tokens_out"])
        for row in rows
    }


MINUTES = """
SELECT application_name, toStartOfMinute(event_time) AS period, count() AS n,
       sum(usage_input_tokens) AS tokens_in, sum(usage_output_tokens) AS tokens_out
FROM usage_events GROUP BY application_name, period"""
HOURS = """
SELECT application_name, hour AS period, sum(events) AS n, sum(input_tokens) AS tokens_in,
       sum(output_tokens) AS tokens_out
FROM usage_hourly GROUP BY application_name, period"""
COMPLETENESS = """
SELECT partition, count() AS consumed, countIf(status = 'accepted') AS accepted,
       countIf(status = 'duplicate') AS duplicate, countIf(status = 'rejected') AS rejected,
       max(offset) + 1 - min(offset) AS offsets
FROM stream_records GROUP BY partition"""


def test_an_hour_of_traffic_adds_up(pair: Pair, requests: list[tuple[str, str, int, int]]) -> None:
    """Tokens by minute and by hour equal those of the file, also after all of it is published a second time."""
    published = "".join(_lines(requests))
    for copies in (1, 2):
        pair.run("publish", "-", text=published)
        pair.consume()
        assert _aggregate(pair, MINUTES, 16) == _sums(requests, 16)
        assert _aggregate(pair, HOURS, 13) == _sums(requests, 13)

        partitions = pair.query(COMPLETENESS)
        assert sum(row["accepted"] for row in partitions) == len(requests)
        assert sum(row["duplicate"] for row in partitions) == (copies - 1) * len(requests)
        for row in partitions:
            assert row["consumed"] == row["accepted"] + row["duplicate"] + row["rejected"] == row["offsets"]
    pair.run("verify")
