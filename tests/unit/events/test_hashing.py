"""The keyed hash for content."""

from __future__ import annotations

import pytest

from usageaudit.events import keyed_hash


def test_it_is_hmac_sha_256() -> None:
    """The hash equals test case 3 of RFC 4231, HMAC-SHA-256 over 50 bytes of 0xdd with a 20-byte key of 0xaa."""
    expected = "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"
    assert keyed_hash(b"\xdd" * 50, b"\xaa" * 20) == expected


def test_text_is_hashed_as_utf_8() -> None:
    """A text and its UTF-8 bytes have one hash."""
    key = b"0123456789abcdef"
    assert keyed_hash("prompt é", key) == keyed_hash("prompt é".encode(), key)


def test_a_short_key_is_refused() -> None:
    """A key that could be guessed is refused with what to do."""
    with pytest.raises(ValueError, match="at least 16"):
        keyed_hash("prompt", b"short")
