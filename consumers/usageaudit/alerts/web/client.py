"""One request of a delivery by HTTP.

Nothing of the environment decides where it goes: no proxy of HTTPS_PROXY and the like is asked. SSL_CERT_FILE names
the authorities, as everywhere. Redirects are not followed, cookies not kept, bodies not decompressed, and a
connection serves one request.
"""

from __future__ import annotations

import re
import ssl
import time
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

import httpcore2
import httpx2
import orjson

from usageaudit.alerts.targets.port import Answer, DeliveryFailed
from usageaudit.alerts.web.answers import judged, printable, shown
from usageaudit.alerts.web.connecting import Backend
from usageaudit.alerts.web.deadline import Deadline
from usageaudit.alerts.web.resolving import Resolver, system_addresses

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from usageaudit.alerts.config.settings import Network
    from usageaudit.alerts.web.resolving import Resolve

CONNECT_SECONDS = 5.0
"""How long it may take to connect to a receiver."""
MAX_ANSWER = 64 * 1024
"""How many bytes of an answer's body are read."""
BODY_SECONDS = 2.0
"""How long the body of an answer is waited for, whose status is known."""
_SECRET_LENGTH, _VALUE_LENGTH = 20, 6
_TOKEN = re.compile(r"(acknowledge\\?/)[A-Za-z0-9_-]{20,}")
"""The secret part of a link that acknowledges, which stands in what is sent."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a request goes; `named` is how messages begin, and tells no path."""

    named: str
    url: httpcore2.URL
    host: str
    header: str


class Web:
    """Sends requests to receivers that `network` lets it reach; `seconds` is for all of one. For one thread at a time.

    `resolve` asks for the addresses of a name, `tls` decides whom to trust, `now` is the time in seconds since 1970.
    """

    def __init__(
        self,
        network: Network,
        seconds: float,
        *,
        resolve: Resolve = system_addresses,
        tls: ssl.SSLContext | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._network, self._seconds, self._now = network, seconds, now
        self._resolver = Resolver(resolve)
        self._tls = ssl.create_default_context() if tls is None else tls

    def post(
        self,
        url: str,
        *,
        name: str,
        json: Any = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        secrets: Sequence[str] = (),
    ) -> Answer:
        """Send a body, `content` or else `json` as JSON, to a receiver and return its answer, where that is 2xx.

        `name` is the target's, for messages; what of `secrets`, of the URL, of `headers` or of a link that acknowledges
        comes back in an answer is masked. Raises DeliveryFailed.
        """
        place = _place(url, name, self._network)
        body = orjson.dumps(json) if content is None else content
        known = _known_secrets(place, headers or {}, secrets)
        status, found, said = self._exchange(place, _head(place, headers or {}), body)
        return judged(place.named, status, found, printable(_TOKEN.sub(r"\1***", said), known), self._now())

    def _exchange(
        self, place: _Place, headers: list[tuple[bytes, bytes]], body: bytes
    ) -> tuple[int, dict[str, str], str]:
        """Return status, headers and the beginning of the body of the answer. Raises DeliveryFailed."""
        deadline = Deadline(self._seconds)
        backend = Backend(self._network, self._resolver, deadline, place.named, min(CONNECT_SECONDS, self._seconds))
        origin = place.url.origin
        try:
            with (
                httpcore2.HTTPConnection(origin, ssl_context=self._tls, network_backend=backend) as connection,
                connection.stream("POST", place.url, headers=headers, content=body) as response,
            ):
                found = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
                return response.status, found, _text(response, found, deadline)
        except TimeoutError:
            message = f"{place.named}: no answer within {self._seconds:g} s; it may have been taken all the same"
            raise DeliveryFailed(message, again=True) from None
        except ssl.SSLCertVerificationError as error:
            message = f"{place.named}: its certificate is not good: {error.verify_message}"
            raise DeliveryFailed(message, again=True) from None
        except ssl.SSLError as error:
            message = f"{place.named}: no TLS: {error.reason or 'the connection was closed'}; check scheme and port"
            raise DeliveryFailed(message, again=True) from None
        except OSError as error:
            raise DeliveryFailed(f"{place.named}: {error.strerror or 'no connection'}", again=True) from None
        except httpcore2.LocalProtocolError:
            raise DeliveryFailed(f"{place.named}: a header can't be sent; check the secret", again=False) from None
        except (httpcore2.ProtocolError, httpcore2.NetworkError):
            message = f"{place.named}: what came back is no answer of HTTP; check scheme and port"
            raise DeliveryFailed(message, again=True) from None


def _text(response: httpcore2.Response, headers: Mapping[str, str], deadline: Deadline) -> str:
    """Return the beginning of a body; what can't be read of it does not matter, since the status says it all."""
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        return "(compressed, and not read)"
    deadline.shorten(BODY_SECONDS)
    read = bytearray()
    try:
        for piece in response.iter_stream():
            read += piece[: MAX_ANSWER - len(read)]
            if len(read) >= MAX_ANSWER:
                break
    except (OSError, httpcore2.ProtocolError, httpcore2.NetworkError):
        pass
    return read.decode(errors="replace")


def _place(url: str, name: str, network: Network) -> _Place:
    """Return where a URL leads. Raises DeliveryFailed where no request may go there."""
    named = f"{name}: {shown(url)}"
    try:
        parsed = httpx2.URL(url)
        origin = httpcore2.URL(scheme=parsed.raw_scheme, host=parsed.raw_host, port=parsed.port, target=parsed.raw_path)
    except (httpx2.InvalidURL, ValueError):
        raise DeliveryFailed(f"{name}: the url is none; write https://host/path", again=False) from None
    host = parsed.raw_host.decode("ascii").lower()
    if parsed.port is not None and not 0 < parsed.port < 65_536:
        raise DeliveryFailed(f"{name}: the url has a port that is none", again=False)
    if not host or parsed.scheme not in ("https", "http"):
        raise DeliveryFailed(f"{named}: the url is not one of https; write https://host/path", again=False)
    if parsed.userinfo:
        raise DeliveryFailed(f"{named}: a user in the url is not sent; take it out", again=False)
    if parsed.scheme == "http" and not _plain_allowed(host, network):
        message = f"{named}: http without TLS is only for hosts and addresses under network.allow; write https"
        raise DeliveryFailed(message, again=False)
    return _Place(named, origin, host, parsed.netloc.decode("ascii"))


def _plain_allowed(host: str, network: Network) -> bool:
    """Return whether a host may be spoken to without TLS: it is allowed by its name, or by its own address."""
    try:
        address = ip_address(host)
    except ValueError:
        return host.rstrip(".") in network.hosts
    return host in network.hosts or any(address in allowed for allowed in network.networks)


def _head(place: _Place, headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    found = {
        "host": place.header,
        "user-agent": "usageaudit",
        "accept": "*/*",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "connection": "close",
    }
    found |= {key.lower(): value for key, value in headers.items()}
    return [(key.encode("latin-1", "replace"), value.encode("utf-8")) for key, value in found.items()]


def _known_secrets(place: _Place, headers: Mapping[str, str], secrets: Sequence[str]) -> list[str]:
    """Return what must not be seen in an answer: secrets, and what is long in the URL and in headers.

    Of the URL these are the whole, the parts of its path and the values of its parameters, as written and as meant.
    """
    target = place.url.target.decode("latin-1")
    path, _, query = target.partition("?")
    values = [value for _, value in parse_qsl(query)] + [part.partition("=")[2] for part in query.split("&")]
    words = [target, path, *path.split("/"), *(word for value in headers.values() for word in value.split())]
    words += [unquote(word) for word in words]
    long = [word for word in words if len(word) >= _SECRET_LENGTH] + [
        one for one in values if len(one) >= _VALUE_LENGTH
    ]
    return [*filter(None, secrets), *long]
