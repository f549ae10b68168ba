"""The receiver: signatures as Standard Webhooks says, each id told of once."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from usageaudit.alerts.signing import key_of
from usageaudit.operating.port import Answer, HttpPort, PortLimits, plain_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from usageaudit.operating.requests import Request

TOLERANCE = 300
"""How many seconds the time of a message may be away from now, as Standard Webhooks proposes."""
REMEMBERED = 10_000
MOST_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message that arrived and is signed: its id, its type, and what it says; `repeated` where it came before."""

    delivery_id: str
    type: str
    data: Mapping[str, Any]
    repeated: bool


@dataclass(slots=True)
class _Receiver:
    """Takes messages; `refused` is told why one was not."""

    key: bytes
    arrived: Callable[[Arrival], None]
    refused: Callable[[str], None]
    _seen: dict[str, None] = field(default_factory=dict)

    def __call__(self, request: Request) -> Answer:
        if request.method != "POST":
            return plain_answer(HTTPStatus.METHOD_NOT_ALLOWED, {"Allow": "POST"})
        if reason := _wrong(request, self.key):
            self.refused(reason)
            return plain_answer(HTTPStatus.UNAUTHORIZED)
        try:
            found = json.loads(request.body)
            arrival = self._arrival(request.headers["webhook-id"], found["type"], found["data"])
        except (ValueError, KeyError, TypeError, RecursionError):
            self.refused("the body is no webhook of alerts")
            return plain_answer(HTTPStatus.BAD_REQUEST)
        self.arrived(arrival)
        return plain_answer(HTTPStatus.OK)

    def _arrival(self, delivery_id: str, kind: object, data: object) -> Arrival:
        if not isinstance(kind, str) or not isinstance(data, dict):
            raise TypeError("a type and an object")
        repeated = delivery_id in self._seen
        self._seen[delivery_id] = None
        if len(self._seen) > REMEMBERED:
            del self._seen[next(iter(self._seen))]
        return Arrival(delivery_id, kind, data, repeated)


def _wrong(request: Request, key: bytes) -> str:
    """Return what is wrong with the signature of a request, nothing where it is good."""
    headers = request.headers
    name, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not name or not (stamp.isascii() and stamp.isdigit() and len(stamp) < 16):
        return "it has no webhook-id or no webhook-timestamp"
    if abs(time.time() - int(stamp)) > TOLERANCE:
        return f"its time is more than {TOLERANCE} s away from now"
    signed = hmac.digest(key, b"%s.%s.%s" % (name.encode("latin-1"), stamp.encode(), request.body), hashlib.sha256)
    expected = b"v1," + base64.b64encode(signed)
    shown = headers.get("webhook-signature", "").encode("latin-1").split(b" ")
    good = [hmac.compare_digest(expected, one) for one in shown]
    return "" if any(good) else "its signature is not by our secret"


@contextmanager
def receiving(
    host: str, port: int, secret: str, arrived: Callable[[Arrival], None], refused: Callable[[str], None]
) -> Iterator[HttpPort]:
    """Receive while the block runs; port 0 becomes a free one. Both functions are called in a thread of the receiver.

    Raises ConfigurationError where it can't be listened there, or the secret is none.
    """
    receiver = _Receiver(key_of(secret), arrived, refused)
    listening = HttpPort(host, port, lambda *_: None, PortLimits(body=MOST_BYTES), takes=receiver)
    listening.open()
    try:
        yield listening
    finally:
        listening.close()
