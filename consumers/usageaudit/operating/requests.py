"""A request as it came over HTTP/1, taken apart and held to limits."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

END = b"\r\n\r\n"
MAX_HEADERS = 64
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A token of RFC 9110, 5.6.2."""


@dataclass(frozen=True, slots=True)
class Request:
    """Method, path without its query, headers by their names in lower case, body, and the address of who asks.

    Headers of one name are joined with commas.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    peer: str = ""


def parse_head(head: bytes, peer: str = "") -> Request | None:
    """Return the request that a head begins, None where it is none of HTTP/1 or has too many headers.

    A name of a header with a space in it or behind it is refused, as RFC 9112 (5.1, 5.2) asks for: to another reader it
    may be the length of the body.
    """
    line, *lines = head.removesuffix(END).decode("latin-1").split("\r\n")
    words = line.split(" ")
    if len(words) != 3 or not words[1].startswith("/") or words[2] not in ("HTTP/1.0", "HTTP/1.1"):
        return None
    if len(lines) > MAX_HEADERS:
        return None
    headers: dict[str, str] = {}
    for one in lines:
        name, _, value = one.partition(":")
        if _NAME.fullmatch(name) is None:
            return None
        lower, value = name.lower(), value.strip()
        headers[lower] = f"{headers[lower]},{value}" if lower in headers else value
    return Request(words[0], words[1].partition("?")[0], headers, peer=peer)


def body_length(request: Request, most: int) -> int | HTTPStatus:
    """Return how many bytes the body has, or the status that refuses it.

    A request without a length has no body; one in pieces is refused, since two readers may see two ends of it.
    """
    if "transfer-encoding" in request.headers:
        return HTTPStatus.LENGTH_REQUIRED
    said = request.headers.get("content-length", "0")
    if not (said.isascii() and said.isdigit()) or len(said) > 12:
        return HTTPStatus.BAD_REQUEST
    return int(said) if int(said) <= most else HTTPStatus.REQUEST_ENTITY_TOO_LARGE
