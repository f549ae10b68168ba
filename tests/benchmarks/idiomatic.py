"""The consumer that a team writes with the usual libraries: confluent-kafka, orjson, functions, clickhouse-connect.

It polls thousands of records at once, reads each with orjson, asks fifty functions about it, and inserts by columns;
offsets are committed after the insert. So it delivers at least once, validates nothing, and takes what is missing for
false. It ends at the offsets that were the end of the topic when it began.
"""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import clickhouse_connect
import orjson
from confluent_kafka import Consumer, Message, TopicPartition

from tests.benchmarks.peers import FILLED, TABLE
from tests.benchmarks.policies import policies, python_functions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Functions = Sequence[tuple[str, Callable[[dict[str, Any], int], bool]]]

BATCH = 20_000
WAIT_SECONDS = 0.5
NOTHING: dict[str, Any] = {}


def consume(bootstrap: str, topic: str, http_port: int, database: str, group: str) -> int:
    """Record the topic up to its present end; return how many records that were."""
    client: Any = clickhouse_connect.get_client(
        host="127.0.0.1", port=http_port, username="default", database=database, compress=False
    )
    settings = {"bootstrap.servers": bootstrap, "group.id": group, "enable.auto.commit": False}
    consumer = Consumer({**settings, "auto.offset.reset": "earliest"})
    left = _records_in(consumer, topic)
    functions = python_functions(policies())
    consumer.subscribe([topic])
    total = 0
    batch: list[Message] = []
    while total + len(batch) < left:
        batch += [message for message in consumer.consume(BATCH - len(batch), WAIT_SECONDS) if not message.error()]
        if len(batch) >= BATCH or total + len(batch) >= left:
            rows = [_row(message, functions) for message in batch]
            client.insert(TABLE, list(zip(*rows, strict=True)), column_names=FILLED, column_oriented=True)
            consumer.commit(asynchronous=False)
            total += len(batch)
            batch = []
    consumer.close()
    return total


def _records_in(consumer: Any, topic: str) -> int:
    partitions = consumer.list_topics(topic).topics[topic].partitions
    marks = [consumer.get_watermark_offsets(TopicPartition(topic, number)) for number in partitions]
    return sum(high - low for low, high in marks)


def _row(message: Any, functions: Functions) -> tuple[Any, ...]:
    raw = message.value()
    event = orjson.loads(raw)
    data = event["data"]
    time = datetime.fromisoformat(event["time"])
    published = datetime.fromtimestamp(message.timestamp()[1] / 1000, UTC)
    violated = [policy for policy, is_violated in functions if is_violated(data, time.hour)]
    return (
        datetime.now(UTC), message.topic(), message.partition(), message.offset(), published, "accepted", len(raw),
        event["source"], event["id"], time, *_event_values(data), violated, raw.decode(),
    )  # fmt: skip


def _event_values(data: dict[str, Any]) -> tuple[Any, ...]:
    """Return the values of EVENT_NAMES, in this order."""
    get = data.get
    model, actor, application = data["model"], data["actor"], data["application"]
    behalf, purpose = actor.get("on_behalf_of") or NOTHING, get("purpose") or NOTHING
    into, out, usage, cost = get("input") or NOTHING, get("output") or NOTHING, get("usage") or NOTHING, get("cost")
    capture, outcome, content = into.get("capture") or NOTHING, get("outcome") or NOTHING, get("content") or NOTHING
    oversight, agent, trace = get("oversight") or NOTHING, get("agent") or NOTHING, get("trace") or NOTHING
    cost, publisher, guardrails = cost or NOTHING, get("publisher") or NOTHING, outcome.get("guardrails") or ()
    amount, signals = cost.get("amount"), content.get("signals") or ()
    return (
        data["operation"], model["provider"], model["name"], model.get("response_name"), model.get("deployment"),
        model.get("region"), actor["id"], actor.get("type"), actor.get("organization"), actor.get("sector"),
        actor.get("jurisdiction"), behalf.get("organization"), behalf.get("sector"), behalf.get("jurisdiction"),
        application["name"], application.get("version"), application.get("environment"), application.get("team"),
        purpose.get("use_case"), purpose.get("reference"), into.get("modalities") or [],
        into.get("data_classification"), capture.get("device"), capture.get("setting"), capture.get("timing"),
        capture.get("place"), out.get("modalities") or [], out.get("inferred_attributes") or [],
        usage.get("input_tokens"), usage.get("output_tokens"), usage.get("cached_input_tokens"),
        usage.get("reasoning_tokens"), usage.get("images"), usage.get("audio_seconds"),
        None if amount is None else Decimal(amount), cost.get("currency"), cost.get("source"),
        outcome.get("status"), outcome.get("error_type"), outcome.get("finish_reasons") or [],
        outcome.get("latency_ms"), [g.get("name") for g in guardrails], [g.get("action") for g in guardrails],
        [g.get("categories") or [] for g in guardrails], content.get("prompt_hmac"), content.get("prompt_chars"),
        content.get("response_hmac"), content.get("response_chars"), [s["category"] for s in signals],
        [s["score"] for s in signals], [s.get("detector") for s in signals], [s.get("version") for s in signals],
        oversight.get("human_review"), oversight.get("reviewer"), oversight.get("consent"), get("conversation_id"),
        agent.get("id"), agent.get("name"), get("tools") or [], trace.get("trace_id"), trace.get("span_id"),
        get("capture"), publisher.get("instance"), publisher.get("sequence"), publisher.get("version"),
        get("labels") or NOTHING,
    )  # fmt: skip


def main(arguments: Sequence[str]) -> None:
    """Run the consumer in a process of its own, so that it can be measured as one."""
    parser = argparse.ArgumentParser(description="record a topic as a team would write it")
    for name in ("bootstrap", "topic", "database", "group"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--http-port", type=int, required=True)
    print(consume(**vars(parser.parse_args(arguments))), "records")


if __name__ == "__main__":
    main(sys.argv[1:])
