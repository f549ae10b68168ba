"""Links that acknowledge: only ours are good, and only for their time."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usageaudit.alerts.acknowledging import AcknowledgeLink, LinkExpired, LinkRefused
from usageaudit.alerts.acknowledging.throttle import MOST_PEERS, Throttle
from usageaudit.alerts.config.secrets import Secret
from usageaudit.errors import ConfigurationError

IDS = st.text("0123456789abcdef", min_size=32, max_size=32)


@dataclass(frozen=True, slots=True)
class Held:
    """A secret that is here."""

    text: str

    def reveal(self) -> str:
        """Return it."""
        return self.text


OLD, NEW = Held("o" * 32), Held("n" * 32)


def _link(now: float = 1_000.0, secret: Held = NEW, former: tuple[Held | Secret, ...] = ()) -> AcknowledgeLink:
    return AcknowledgeLink("https://audit.example.org/base/", secret, former, seconds=60, clock=lambda: now)


def _token(link: AcknowledgeLink, alert_id: str) -> str:
    return link.for_alert(alert_id).rpartition("/")[2]


@given(IDS)
def test_a_link_names_its_alert(alert_id: str) -> None:
    """What was signed is read back, and the link lies below the public URL and is safe in one."""
    url = _link().for_alert(alert_id)
    assert url.startswith("https://audit.example.org/base/acknowledge/")
    assert set(url) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_:/.")
    assert _link().alert_of(url.rpartition("/")[2]) == alert_id


@given(IDS)
@settings(max_examples=5)  # each tries some 1,500 tokens
def test_every_single_bit_counts(alert_id: str) -> None:
    """A token with any one bit changed, of its text or of the bytes it stands for, is refused."""
    token = _token(_link(), alert_id)
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    changed = [
        bytes(one ^ (1 << bit) if place == at else one for place, one in enumerate(raw))
        for at in range(len(raw))
        for bit in range(8)
    ]
    texts = [base64.urlsafe_b64encode(one).rstrip(b"=").decode() for one in changed]
    texts += [
        token[:at] + chr(ord(token[at]) ^ (1 << bit)) + token[at + 1 :] for at in range(len(token)) for bit in range(8)
    ]
    for text in texts:
        with pytest.raises(LinkRefused):
            _link().alert_of(text)


@given(st.text(max_size=500) | st.binary(max_size=300).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_nothing_else_is_a_token(text: str) -> None:
    """Whatever is no token of ours is refused, however it is spelt."""
    with pytest.raises(LinkRefused):
        _link().alert_of(text)
    token = _token(_link(), "a" * 32)
    for other in (token + "=", token + "\n", " " + token, token + "A", token[:-1], ""):
        with pytest.raises(LinkRefused):
            _link().alert_of(other)


def test_a_link_ends() -> None:
    """A link holds until its last second, and is refused from then on, also where the signature is good."""
    token = _token(_link(1_000), "a" * 32)
    assert _link(1_059).alert_of(token) == "a" * 32
    with pytest.raises(LinkExpired):
        _link(1_060).alert_of(token)


def test_secrets_rotate() -> None:
    """Links of a former secret hold while it is named and there, and not after; that it is gone ends no other."""
    token = _token(_link(secret=OLD), "a" * 32)
    assert _link(former=(OLD,)).alert_of(token) == "a" * 32
    with pytest.raises(LinkRefused):
        _link().alert_of(token)
    gone = Secret("file", "/nowhere/former.key")
    assert _link(former=(gone, OLD)).alert_of(token) == "a" * 32
    with pytest.raises(LinkRefused):
        _link(former=(gone,)).alert_of(token)


def test_short_secrets_sign_nothing() -> None:
    """A secret that could be guessed is refused, without being shown."""
    with pytest.raises(ConfigurationError) as refused:
        _link(secret=Held("short-secret")).for_alert("a" * 32)
    assert "openssl" in str(refused.value)


def test_failures_are_bounded_by_address() -> None:
    """Who fails often is not heard until time has passed; others are, and not all addresses are remembered."""
    now = [0.0]
    throttle = Throttle(failures=3, seconds=10, clock=lambda: now[0])
    for _ in range(3):
        assert not throttle.refuses("192.0.2.1")
        throttle.failed("192.0.2.1")
    assert throttle.refuses("192.0.2.1")
    assert throttle.refuses("::ffff:192.0.2.1")
    assert not throttle.refuses("192.0.2.2")
    for number in range(3):
        throttle.failed(f"2001:db8::{number}")
    assert throttle.refuses("2001:db8::ffff")
    now[0] = 11
    assert not throttle.refuses("192.0.2.1")
    for number in range(MOST_PEERS + 10):
        throttle.failed(f"10.0.{number // 250}.{number % 250}")
    assert len(throttle._failed) == MOST_PEERS
