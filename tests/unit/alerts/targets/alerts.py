"""Alerts for tests: one of every day, and any that could come."""

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from usageaudit.alerts.model import Alert, Notification, Occasion, Status
from usageaudit.verdicts import SEVERITIES

SAMPLE = Alert(
    alert_id="a1" * 16,
    status="firing",
    kind="event",
    policy_id="conduct/no-face-recognition",
    policy_version=3,
    severity="high",
    message="Face recognition is not allowed in public places",
    violation_id="0f" * 16,
    first_time="2026-03-01T09:30:00.000001Z",
    group={"application.name": "gate-camera"},
    count=12,
    application="gate-camera",
    team="security",
    organization="city",
    model="gpt-vision",
    event_source="service/gate",
    event_id="e-1",
    evidence='{"data.purpose":"identification"}',
    bundle="b" * 64,
    acknowledge_url="https://alerts.example.org/acknowledge?alert=a1&signature=s",
)
HOSTILE = (
    "<!channel>",
    "<!everyone|x>",
    "<@U0123>",
    "<https://evil.example|click>",
    "&lt;!here&gt;",
    "@everyone @here",
    "[click](https://evil.example)",
    "<at>Ada</at>",
    "{{DATE(2026-01-01T00:00:00Z)}}",
    "<script>alert(1)</script>",
    "\r\nBcc: victim@example.org\r\n\r\nbody",
    "\n.\n\r\n.\r\nMAIL FROM:<x>",
    "=?utf-8?q?=0ABcc:_x?=",
    "\u202egnp.exe",
    "\x00\x1b[31m",
    "\ud800",
    "$(rm -rf /)'; --",
    "x" * 100_000,
    "\U0001f600" * 5_000,
    "\u8a9e" * 50_000,
    '"\\' * 20_000,
    "&" * 20_000,
    " \n\t ",
)
_HOSTILE = st.integers(0, len(HOSTILE) - 1).map(HOSTILE.__getitem__)
TEXT = st.one_of(
    _HOSTILE,
    st.text(st.characters(codec=None), max_size=60),
    st.lists(st.one_of(_HOSTILE, st.text(max_size=20)), max_size=4).map("".join),
)
_FIELDS = (
    *("kind", "policy_id", "message", "violation_id", "first_time", "application", "team", "organization", "model"),
    *("event_source", "event_id", "evidence", "bundle", "acknowledge_url"),
)
OCCASIONS: tuple[Occasion, ...] = ("opened", "escalated", "resolved", "test")


def notification(occasion: Occasion = "opened", delivery_id: str = "d1" * 16, **changed: Any) -> Notification:
    """Return a notification of the alert of every day, with what is different about it."""
    status: Status = "resolved" if occasion == "resolved" else "firing"
    return Notification(delivery_id, occasion, replace(SAMPLE, status=status, **changed))


@st.composite
def any_notification(draw: st.DrawFn) -> Notification:
    """Draw a notification with any text in any of its fields; ids of alerts and deliveries are our own."""
    names = draw(st.lists(st.sampled_from(_FIELDS), unique=True, max_size=len(_FIELDS)))
    changed: dict[str, Any] = {name: draw(TEXT) for name in names}
    changed["severity"] = draw(st.sampled_from(SEVERITIES))
    changed["count"] = draw(st.integers(1, 10**9))
    changed["group"] = draw(st.dictionaries(TEXT, TEXT, max_size=30))
    return notification(draw(st.sampled_from(OCCASIONS)), **changed)
