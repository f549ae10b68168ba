"""What an answer means for a delivery."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usageaudit.alerts.targets.port import DeliveryFailed
from usageaudit.alerts.web.answers import MAX_AFTER, judged, printable, retry_after, shown

NOW = 1_770_000_000.0


@given(st.integers(100, 999))
def test_each_status_has_one_meaning(status: int) -> None:
    """2xx is taken; 408, 425, 429 and from 500 on are worth another try; nothing else is."""
    if 200 <= status < 300:
        assert judged("ops: https://hooks.example", status, {}, "said", NOW).status == status
    else:
        with pytest.raises(DeliveryFailed) as failed:
            judged("ops: https://hooks.example", status, {}, "said", NOW)
        assert failed.value.again == (status in (408, 425, 429) or status >= 500)
        assert failed.value.status == status


@given(st.integers(-100_000, 100_000))
def test_a_date_to_wait_for_is_bounded(seconds: int) -> None:
    """Retry-After as a date is the time until then, none in the past, and an hour at most."""
    text = format_datetime(datetime.fromtimestamp(NOW + seconds, UTC), usegmt=True)
    assert retry_after(text, NOW) == min(max(seconds, 0), MAX_AFTER)


@given(st.integers(0, 10**400))
def test_seconds_to_wait_for_are_bounded(seconds: int) -> None:
    """Retry-After in seconds is those, and an hour at most."""
    assert retry_after(str(seconds), NOW) == min(seconds, MAX_AFTER)


@given(st.text() | st.text("0123456789 GMTMonJan:,-+"))
def test_any_retry_after_is_a_time_or_none(text: str) -> None:
    """Whatever stands in Retry-After yields no time, or one between nothing and an hour."""
    after = retry_after(text, NOW)
    assert after is None or 0 <= after <= MAX_AFTER


@given(st.text(max_size=2000))
def test_what_is_shown_is_one_line(text: str) -> None:
    """What a receiver says, and the place it points to, come out as one short printable line."""
    for line in (printable(text, ()), shown(text), shown(f"https://{text}")):
        assert line.isprintable() or not line
        assert len(line) <= 500


@pytest.mark.parametrize("secret", ["abc", "key-of-routing"])
def test_secrets_are_masked(secret: str) -> None:
    """A secret that comes back in an answer is not in what is kept of it."""
    assert printable(f"no such {secret}!", [secret]) == "no such ***!"


def test_places_are_shown_without_what_is_secret() -> None:
    """Of a URL scheme, host and port are shown; not user, path, query nor fragment."""
    assert shown("https://user:pw@[2001:db8::1]:8443/path?query#part") == "https://[2001:db8::1]:8443"
