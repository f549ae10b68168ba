"""The keyed hash under which content may be mentioned: a bare hash of a short prompt could be guessed."""

from __future__ import annotations

import hashlib
import hmac

MIN_KEY_BYTES = 16


def keyed_hash(content: str | bytes, key: bytes) -> str:
    """Return HMAC-SHA-256 (RFC 2104) of the content, text as UTF-8, as 64 lower-case hex digits.

    `key` is a secret of the organisation; raises ValueError where it is shorter than 16 bytes.
    """
    if len(key) < MIN_KEY_BYTES:
        raise ValueError(f"the key has {len(key)} bytes; use at least {MIN_KEY_BYTES} random ones")
    raw = content.encode() if isinstance(content, str) else content
    return hmac.new(key, raw, hashlib.sha256).hexdigest()
