"""Signatures of webhooks, verified by the library of those who wrote the standard."""

from __future__ import annotations

import base64
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from usageaudit.alerts.signing import key_of, new_secret, signed_headers
from usageaudit.errors import ConfigurationError

KEYS = st.lists(st.binary(min_size=24, max_size=64), min_size=1, max_size=4, unique=True)
IDS = st.text("abcdef0123456789_-", min_size=1, max_size=40)


@given(KEYS, IDS, st.text())
def test_each_key_verifies(keys: list[bytes], message_id: str, text: str) -> None:
    """What several keys sign is verified by whoever has any of them, and by nobody else."""
    headers = signed_headers(keys, message_id, int(time.time()), text.encode())
    for key in keys:
        Webhook(key).verify(text, headers, json_parse=False)
    with pytest.raises(WebhookVerificationError):
        Webhook(b"another" + keys[0]).verify(text, headers, json_parse=False)


@given(st.binary(min_size=24, max_size=64))
def test_keys_are_read_as_they_are_written(key: bytes) -> None:
    """A secret yields its key, with the padding of base64 or without it."""
    text = base64.b64encode(key).decode()
    assert key_of(f"whsec_{text}") == key == key_of(f"whsec_{text.rstrip('=')}")


@pytest.mark.parametrize(
    "wrong", ["", "whsec_", "whsec_c2hvcnQ=", f"whsec_{'A' * 200}", "A" * 44, "whsec_not base64 at all but long enough"]
)
def test_what_is_no_secret_is_refused(wrong: str) -> None:
    """What has no prefix, is too short, too long or no base64 is refused, without being shown."""
    with pytest.raises(ConfigurationError) as refused:
        key_of(wrong)
    assert len(wrong) < 7 or wrong not in str(refused.value)


def test_new_secrets_differ_and_are_good() -> None:
    """A new secret is one that is taken, and never the same."""
    assert len(key_of(new_secret())) == 32
    assert new_secret() != new_secret()


@pytest.mark.parametrize("wrong", ["", "a.1", "a b", "é", "a\r\nb"])
def test_an_id_is_nothing_but_an_id(wrong: str) -> None:
    """An id that could be read as id and time, or ends a header, is never signed."""
    with pytest.raises(ValueError, match="an id"):
        signed_headers([b"k" * 32], wrong, 1, b"{}")
