"""The forms that no schema is published for: mails, records of a topic, texts of Apprise."""

from __future__ import annotations

import email
import email.policy
import json
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_structured_event
from cloudevents.core.formats.json import JSONFormat
from hypothesis import given
from jsonschema import Draft202012Validator

from tests.unit.alerts.targets.alerts import SAMPLE, TEXT, any_notification, notification
from usageaudit.alerts.targets import apprise, kafka
from usageaudit.alerts.targets import email as mail
from usageaudit.alerts.targets.webhook_body import webhook_schema
from usageaudit.cloudevents import MAX_RECORD_BYTES

if TYPE_CHECKING:
    from email.message import EmailMessage

    from usageaudit.alerts.model import Notification

# The texts are large on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")
NOW = datetime(2026, 3, 1, 10, tzinfo=UTC)
SENDER, TO = "usageaudit <alerts@example.org>", ("ada@example.org", "bob@example.org")
WEBHOOK_DATA = Draft202012Validator(webhook_schema() | webhook_schema()["$defs"]["WebhookAlert"])
HEADERS = [
    *("From", "To", "Subject", "Date", "Message-ID", "References", "Auto-Submitted", "MIME-Version", "Content-Type"),
]


class _Tags(HTMLParser):
    """The tags of a document and the links in it."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str | None] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value for name, value in attrs if name in ("href", "src")]


def _read(sent: bytes) -> EmailMessage:
    return email.message_from_bytes(sent, policy=email.policy.default)


def _part(message: EmailMessage, kind: str) -> str:
    body = message.get_body(preferencelist=(kind,))
    assert body is not None
    return str(body.get_content())


@given(one=any_notification(), subject=TEXT, text=TEXT)
def test_no_text_adds_a_header_or_a_tag_to_a_mail(one: Notification, subject: str, text: str) -> None:
    """Any text gives a mail with just our headers and tags, in lines that every server takes, for just our readers."""
    sent = mail.render(one, SENDER, TO, NOW, subject, text).as_bytes()
    read = _read(sent)
    assert [name for name in read if name.lower() != "content-transfer-encoding"] == HEADERS
    assert [one.addr_spec for one in read["To"].addresses] == list(TO)
    assert max(map(len, sent.split(b"\r\n"))) <= 998  # RFC 5322, 2.1.1
    assert b"\n" not in sent.replace(b"\r\n", b"")
    assert sent.isascii()
    tags = _Tags()
    tags.feed(_part(read, "html"))
    assert tags.tags <= {"html", "body", "p", "strong", "table", "tr", "th", "td", "a"}
    assert tags.links in ([], [one.alert.acknowledge_url])


def test_a_mail_says_everything_in_both_of_its_forms() -> None:
    """The text and the HTML have what people need, the headers who wrote it and that no person did."""
    read = _read(mail.render(notification(), SENDER, TO, NOW).as_bytes())
    expected = (SAMPLE.message, SAMPLE.policy_id, SAMPLE.violation_id, SAMPLE.team, "usageaudit query")
    assert [(kind, one) for kind in ("plain", "html") for one in expected if one not in _part(read, kind)] == []
    assert SAMPLE.acknowledge_url in _part(read, "plain")
    assert (read["Auto-Submitted"], read["From"]) == ("auto-generated", SENDER)


def test_a_repeated_mail_has_the_same_id_and_the_next_one_refers_to_the_same_alert() -> None:
    """The Message-ID is the delivery's, so a mailbox knows a repeat; mails of one alert make one thread."""
    first, again, later = (
        mail.render(one, SENDER, TO, NOW)
        for one in (notification(), notification(count=13), notification("resolved", delivery_id="d2" * 16))
    )
    assert first["Message-ID"] == again["Message-ID"] == f"<{'d1' * 16}@example.org>" != later["Message-ID"]
    assert first["References"] == later["References"]


def test_a_template_gives_the_subject() -> None:
    """The subject and the text are those of the templates where there are some."""
    read = _read(mail.render(notification(), SENDER, TO, NOW, "Stop", "At once").as_bytes())
    assert read["Subject"] == "Stop"
    assert "At once" in _part(read, "plain")
    assert SAMPLE.message not in _part(read, "plain")


@given(any_notification())
def test_every_record_of_the_topic_is_a_cloudevent(one: Notification) -> None:
    """Any alert gives a record that the CloudEvents SDK reads, with the delivery's id and data as a webhook's."""
    record = kafka.render(one, NOW)
    headers = dict(record.headers)
    read = from_structured_event(KafkaMessage(headers, record.key, record.value), JSONFormat())
    assert (read.get_id(), read.get_type()) == (one.delivery_id, f"io.usageaudit.alert.{one.occasion}")
    assert headers["webhook-id"] == headers["ce_id"] == one.delivery_id.encode()
    assert record.key == one.alert.alert_id.encode()
    assert len(record.value) <= MAX_RECORD_BYTES
    assert [*WEBHOOK_DATA.iter_errors(read.get_data())] == []


def test_a_record_has_the_evidence_as_it_is() -> None:
    """Evidence is what it is in the record, and a text where it is no JSON or too deep to be written."""
    records = [kafka.render(notification(evidence=one), NOW) for one in (SAMPLE.evidence, "{", "[" * 300 + "]" * 300)]
    found = [json.loads(record.value)["data"]["evidence"] for record in records]
    assert found == [{"data.purpose": "identification"}, {"text": "{"}, {"text": "[" * 300 + "]" * 300}]


@given(one=any_notification(), text=TEXT)
def test_a_text_of_apprise_mentions_nobody(one: Notification, text: str) -> None:
    """Whatever markup the reader knows, no mention and no link with another name comes from an alert."""
    title, body = apprise.render(one, text)
    allowed = one.alert.acknowledge_url
    for shown in (title, body.removesuffix(f"Acknowledge: {allowed}")):
        assert not any(mark in shown for mark in ("@everyone", "@here", "<!", "<@", "<http", "<at>", "](", "<script"))
    assert len(title) <= apprise.MOST_TITLE
    assert len(body) <= 20_000
