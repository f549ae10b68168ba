"""Links that acknowledge an alert: whoever was told of it holds one, and nobody can make another.

A token is base64url (RFC 4648 without padding) of an HMAC-SHA256 (32 bytes), the time it ends (8 bytes, seconds since
1970, big-endian) and the alert's id in UTF-8. Only one text stands for those bytes, so a token has no second spelling.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from abc import abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from usageaudit.errors import ConfigurationError, UsageAuditError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LINK_SECONDS = 7 * 86_400
LEAST_SECRET = 16
"""How many characters a secret has at least."""
MOST_TOKEN = 400
PATH = "/acknowledge/"
_PURPOSE = b"usageaudit/acknowledge/1\0"
_MAC, _TIME = 32, 8


class LinkRefused(UsageAuditError):
    """A token that we did not make."""


class LinkExpired(LinkRefused):
    """A token of ours whose time is over."""


class Revealing(Protocol):
    """Somewhere a secret can be read."""

    @abstractmethod
    def reveal(self) -> str:
        """Return the secret. Raises ConfigurationError."""


@dataclass(frozen=True, slots=True)
class AcknowledgeLink:
    """Makes and reads links below a public URL; links that a secret of `former` signed are read, too.

    A link holds for `seconds`; `clock` gives seconds since 1970.
    """

    url: str
    secret: Revealing
    former: tuple[Revealing, ...] = ()
    seconds: int = LINK_SECONDS
    clock: Callable[[], float] = time.time

    def for_alert(self, alert_id: str) -> str:
        """Return the link of an alert. Raises ConfigurationError where the secret is not there or too short."""
        body = (int(self.clock()) + self.seconds).to_bytes(_TIME) + alert_id.encode()
        token = base64.urlsafe_b64encode(_mac(_key(self.secret), body) + body).rstrip(b"=").decode()
        return f"{self.url.rstrip('/')}{PATH}{token}"

    def alert_of(self, token: str) -> str:
        """Return the id of the alert that a token is of. Raises LinkRefused, ConfigurationError."""
        found = _decoded(token)
        mac, body = found[:_MAC], found[_MAC:]
        # All keys are tried, so that how long it takes does not tell which one it was.
        ours = [hmac.compare_digest(mac, _mac(key, body)) for key in (_key(self.secret), *self._former_keys())]
        if not any(ours):
            raise LinkRefused("the link is none that was made here")
        if int.from_bytes(body[:_TIME]) <= self.clock():
            raise LinkExpired("the link has expired")
        return body[_TIME:].decode()

    def _former_keys(self) -> Iterator[bytes]:
        """Yield the keys of former secrets; one whose file somebody took away meanwhile is over, and ends no other."""
        for one in self.former:
            with suppress(ConfigurationError):
                yield _key(one)


def checked_secret(secret: Revealing) -> str:
    """Return a secret that is long enough not to be guessed. Raises ConfigurationError."""
    text = secret.reveal()
    if len(text) < LEAST_SECRET:
        raise ConfigurationError(
            f"the secret {secret} is shorter than {LEAST_SECRET} characters; make one with `openssl rand -hex 32`"
        )
    return text


def _key(secret: Revealing) -> bytes:
    return checked_secret(secret).encode()


def _mac(key: bytes, body: bytes) -> bytes:
    return hmac.digest(key, _PURPOSE + body, hashlib.sha256)


def _decoded(token: str) -> bytes:
    """Return the bytes of a token. Raises LinkRefused where it is not the one text that stands for them."""
    if len(token) > MOST_TOKEN or not token.isascii():
        raise LinkRefused("the link is none that was made here")
    try:
        found = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise LinkRefused("the link is none that was made here") from None
    if len(found) <= _MAC + _TIME or base64.urlsafe_b64encode(found).rstrip(b"=") != token.encode():
        raise LinkRefused("the link is none that was made here")
    return found
