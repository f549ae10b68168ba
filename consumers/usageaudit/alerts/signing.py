"""Signatures of Standard Webhooks 1.0.0, by secrets that both sides know.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from typing import TYPE_CHECKING

from usageaudit.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

PREFIX = "whsec_"
SHORTEST_KEY, LONGEST_KEY = 24, 64
"""How many bytes a key has, by the specification, "Signature scheme"."""
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


def new_secret() -> str:
    """Return a new secret: 32 random bytes in the form that both sides write down."""
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def key_of(secret: str) -> bytes:
    """Return the key that a secret like `whsec_…` holds. Raises ConfigurationError, which does not show it."""
    text = secret.removeprefix(PREFIX)
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(PREFIX) or not SHORTEST_KEY <= len(key) <= LONGEST_KEY:
        raise ConfigurationError(
            f"a secret of a webhook is {PREFIX} and {SHORTEST_KEY} to {LONGEST_KEY} random bytes in base64; "
            f'make one with: echo "{PREFIX}$(openssl rand -base64 32)"'
        )
    return key


def signed_headers(keys: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers of a request whose body is signed by every key; `timestamp` is in seconds since 1970.

    Raises ValueError for an id that could be mistaken for more than an id, and without a key.
    """
    if not keys or _ID.fullmatch(message_id) is None:
        raise ValueError("a signature needs a key, and an id of letters, digits, - and _")
    content = b"%s.%d.%s" % (message_id.encode(), timestamp, body)
    signatures = (base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode() for key in keys)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
