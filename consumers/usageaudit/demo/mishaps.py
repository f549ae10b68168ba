"""What goes wrong on the way to the record: services that send nonsense, and one that sends its spool again."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from usageaudit.demo.week import SimulatedEvent

RESENT = 240
"""How many events the service below sends a second time."""
RESENDING_SOURCE = "//meridian/meeting-notes"
_HEAD = b'{"specversion":"1.0","source":"//meridian/chat-widget","type":"io.usageaudit.model_usage.v1"'
_TIME = b',"time":"2024-05-02T10:15:00Z"'
_DATA = (
    b'"operation":"chat","model":{"provider":"azure.ai.openai","name":"gpt-4-turbo"},'
    b'"actor":{"id":"u-4f1d"},"application":{"name":"chat-widget"}'
)


def bad_records() -> list[bytes]:
    """Return records that are no usage events, each for another reason."""
    return [
        b"GET / HTTP/1.1",
        b'{"specversion":"1.0","id":"w-1"',
        _HEAD + b',"id":"w-2","data":{' + _DATA + b"}}",
        _HEAD + _TIME + b',"id":"w-3","data":{' + _DATA + b',"usage":{"input_tokens":"many"}}}',
        _HEAD + _TIME + b',"id":"w-4","data":{' + _DATA + b',"usage":{"input_tokens":-1,"output_tokens":1.5}}}',
        _HEAD + _TIME + b',"id":"w-5","data":{' + _DATA + b',"input":{"modalities":[5]}}}',
        _HEAD + _TIME + b',"id":"w-6","data":{' + _DATA + b',"cost":{"amount":0.25,"currency":"USD"}}}',
        _HEAD + _TIME + b',"id":"","data":{' + _DATA + b"}}",
        _HEAD.replace(b".v1", b".v7") + _TIME + b',"id":"w-8","data":{' + _DATA + b"}}",
        _HEAD + _TIME + b',"id":"w-9","data":' + b'{"a":' * 100 + b"1" + b"}" * 100 + b"}",
        b"\xff\xfe\x00usage",
    ]


def resent(events: Sequence[SimulatedEvent], seed: int) -> list[SimulatedEvent]:
    """Return the events that are published a second time, in their order."""
    candidates = [event for event in events if event.source == RESENDING_SOURCE]
    chosen = random.Random(seed).sample(range(len(candidates)), min(RESENT, len(candidates)))  # noqa: S311
    return [candidates[i] for i in sorted(chosen)]
