"""Logins, certificates and rights at a broker that asks for them, and what is said where they do not fit."""

from __future__ import annotations

import gc
import json
import logging
import re
import time
import warnings
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.conftest import running
from tests.documents import ROOT
from tests.servers.certificates import Authority
from tests.servers.kafka_secured import SecuredKafka
from usageaudit.cli.run import run
from usageaudit.embedded_log import NewRecord
from usageaudit.errors import ConfigurationError, StreamUnavailable
from usageaudit.publisher.complaints import Complaints
from usageaudit.publisher.kafka import KafkaOutlet
from usageaudit.stream_url import KafkaStreamAddress, parse_stream_url
from usageaudit.streams import kafka_client, kafka_connecting
from usageaudit.streams.opening import open_stream
from usageaudit.streams.port import BatchLimits

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from usageaudit.publisher.port import Unsent
    from usageaudit.streams.port import Batch, Stream

pytestmark = pytest.mark.kafka
TOPIC = "usage-events"
GROUP = "usageaudit"
PATIENCE = 20.0
IMPATIENCE = 3.0
SECRETS = ("right-secret", "wrong-secret", "key-secret")
USERS: Mapping[str, str] = dict.fromkeys(("audit", "publisher", "writer", "no-group", "nobody"), "right-secret")
RECORD = NewRecord(b"key", b"value")


@dataclass(frozen=True)
class Place:
    """The broker, and options of URLs for it."""

    broker: SecuredKafka
    ca: str
    other_ca: str
    client: str
    encrypted: str
    expired: str
    foreign: str

    def url(self, text: str) -> str:
        """Fill in a URL that is written with the names of these fields."""
        broker = self.broker
        ports = {
            "plain": broker.bootstrap,
            "sasl": broker.sasl_bootstrap,
            "tls": broker.tls,
            "sasl_tls": broker.sasl_tls,
        }
        ports |= {"astray": broker.astray, "tls_expired": broker.expired, "tls_misnamed": broker.misnamed}
        files = {name: getattr(self, name) for name in ("ca", "other_ca", "client", "encrypted", "expired", "foreign")}
        return "kafka://" + text.format(**ports, **files)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Yield a broker with a topic of one partition, on which some users have some rights."""
    folder = tmp_path_factory.mktemp("secured")
    with running(SecuredKafka(folder / "kafka", USERS)) as broker:
        broker.create_topic(TOPIC)
        for user in ("audit", "CN=client", "CN=encrypted"):
            broker.allow(user, "topic", TOPIC, "read", "write")
            broker.allow(user, "group", GROUP, "read")
        broker.allow("publisher", "topic", TOPIC, "write")
        broker.allow("writer", "topic", TOPIC, "write")
        broker.allow("writer", "group", GROUP, "read")
        broker.allow("no-group", "topic", TOPIC, "read")
        authority, other = broker.authority, Authority(folder / "other")
        pairs = {
            "client": authority.sign("client"),
            "encrypted": authority.sign("encrypted", password="key-secret"),
            "expired": authority.sign("client", expires="20210101000000Z"),
            "foreign": other.sign("client"),
        }
        options = {name: f"cert_file={one.certificate}&key_file={one.key}" for name, one in pairs.items()}
        yield Place(broker, f"ca_file={authority.certificate}", f"ca_file={other.certificate}", **options)


@pytest.fixture(autouse=True)
def keeping_secrets(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """See that no secret is logged, and collect the sockets that kafka-python leaves."""
    with caplog.at_level(logging.DEBUG):
        yield
    logged = caplog.text
    caplog.get_records("call").clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    assert [secret for secret in SECRETS if secret in logged] == []


def login(user: str = "audit", password: str = "right-secret", mechanism: str = "SCRAM-SHA-512") -> str:
    """Return the options of a login."""
    return f"sasl_mechanism={mechanism}&username={user}&password={password}"


def publish(url: str) -> list[Unsent | None]:
    """Publish one record, waiting until the broker has it."""
    address = parse_stream_url(url)
    assert isinstance(address, KafkaStreamAddress)
    with closing(KafkaOutlet(address, Complaints())) as outlet:
        return list(outlet.ship([RECORD]))


def consume(url: str) -> None:
    """Join the group and read a record of the topic's beginning."""
    with closing(open_stream(url, limits=BatchLimits(seconds=0.02))) as stream:
        batch = read_from(stream, 0)
        assert batch.records[0].value == RECORD.value
        stream.acknowledge(batch.partition, batch.next_offset)


def poll_for(stream: Stream, seconds: float) -> None:
    """Poll until something is raised, or the time is over."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        stream.poll(0.2)


def read_from(stream: Stream, offset: int | None) -> Batch:
    """Return the next batch with records, of partitions started at an offset, or already started."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        for partition in stream.assigned():
            stream.start(partition, offset or 0)
        with suppress(StreamUnavailable) if offset is None else nullcontext():
            batch = stream.poll(0.2)
            if batch is not None and batch.records:
                return batch
    raise AssertionError("no record came")


WELL = {
    "PLAIN": "{sasl}?security=SASL_PLAINTEXT&" + login(mechanism="PLAIN"),
    "SCRAM-SHA-256": "{sasl}?security=SASL_PLAINTEXT&" + login(mechanism="SCRAM-SHA-256"),
    "SCRAM-SHA-512 within TLS": "{sasl_tls}?security=SASL_SSL&{ca}&" + login(),
    "PLAIN within TLS": "{sasl_tls}?security=SASL_SSL&{ca}&" + login(mechanism="PLAIN"),
    "client certificate": "{tls}?security=SSL&{ca}&{client}",
    "client certificate with an encrypted key": "{tls}?security=SSL&{ca}&{encrypted}&key_password=key-secret",
}


@pytest.mark.parametrize("url", WELL.values(), ids=WELL)
def test_every_kind_of_login_publishes_and_consumes(place: Place, url: str) -> None:
    """With each security that is documented a record is acknowledged, read and its offset committed."""
    assert publish(place.url(url)) == [None]
    consume(place.url(url))


WRONG_LOGIN = "the broker refused the login: wrong username or password"
NOT_TRUSTED = "the broker's certificate is signed by nobody who is trusted here"
BAD_CLIENT = "the broker refused the client certificate"
SYMPTOMS = {
    "wrong password": ("{sasl_tls}?security=SASL_SSL&{ca}&" + login(password="wrong-secret"), WRONG_LOGIN),
    "wrong password, PLAIN": (
        "{sasl}?security=SASL_PLAINTEXT&" + login(password="wrong-secret", mechanism="PLAIN"),
        WRONG_LOGIN,
    ),
    "unknown user": ("{sasl}?security=SASL_PLAINTEXT&" + login("stranger"), WRONG_LOGIN),
    "wrong authority": ("{sasl_tls}?security=SASL_SSL&{other_ca}&" + login(), NOT_TRUSTED),
    "no authority": ("{sasl_tls}?security=SASL_SSL&" + login(), NOT_TRUSTED),
    "expired certificate": ("{tls_expired}?security=SSL&{ca}", "the broker's certificate has expired"),
    "wrong host name": ("{tls_misnamed}?security=SSL&{ca}", "the broker's certificate is for another host"),
    "no client certificate": ("{tls}?security=SSL&{ca}", "the broker asks for a client certificate"),
    "expired client certificate": ("{tls}?security=SSL&{ca}&{expired}", BAD_CLIENT),
    "client certificate of another authority": ("{tls}?security=SSL&{ca}&{foreign}", BAD_CLIENT),
    "no TLS at a port for TLS": (
        "{sasl_tls}?security=SASL_PLAINTEXT&" + login(),
        "this port speaks TLS: use security=SASL_SSL",
    ),
    "TLS at a port without": ("{plain}?security=SSL&{ca}", "this port does not speak TLS"),
    "login at a port without": ("{plain}?security=SASL_PLAINTEXT&" + login(), "this port takes no login"),
    "no login at a port for logins": (
        "{sasl}",
        "the broker hangs up: this port wants a login",
    ),
    "unknown host": ("no-such-host.invalid:9092", "the host's name is not known here"),
    "no broker": ("127.0.0.1:9", "nothing answers there: is it running, is this its port"),
}


WAITED_FOR = [SYMPTOMS[name][0] for name in ("no login at a port for logins", "unknown host", "no broker")]
"""What may mend itself while a broker starts, and so is tried for as long as a connection may take."""


@pytest.mark.parametrize(("url", "said"), SYMPTOMS.values(), ids=SYMPTOMS)
def test_what_does_not_fit_is_named(place: Place, url: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way not to get in is told by its likely cause, in bounded time, without a secret; the document has it."""
    if url in WAITED_FOR:
        monkeypatch.setattr(kafka_connecting, "CONNECT_SECONDS", IMPATIENCE)
    began = time.monotonic()
    with pytest.raises(StreamUnavailable, match=re.escape(said)) as caught:
        open_stream(place.url(url)).close()
    assert time.monotonic() - began < kafka_connecting.CONNECT_SECONDS + 3 <= 15
    assert ("within" in str(caught.value)) == (url in WAITED_FOR)
    assert "secret" not in str(caught.value)
    assert said in (ROOT / "docs" / "kafka.md").read_text(encoding="utf-8")


OF_PUBLISHER = ("wrong password", "no client certificate")


@pytest.mark.parametrize("symptom", OF_PUBLISHER)
def test_the_publisher_names_it_too(place: Place, symptom: str) -> None:
    """A publisher that does not get in says why; where the broker only hangs up, that the login is likely wrong."""
    url, said = SYMPTOMS[symptom]
    said = "wrong username or password" if said == WRONG_LOGIN else said
    with pytest.raises(StreamUnavailable, match=re.escape(said)) as caught:
        publish(place.url(url))
    assert "secret" not in str(caught.value)


UNUSABLE = {
    "wrong key password": "{tls}?security=SSL&{ca}&{encrypted}&key_password=wrong-secret",
    "no key password": "{tls}?security=SSL&{ca}&{encrypted}",
    "authority that is none": "{tls}?security=SSL&ca_file=" + str(ROOT / "README.md"),
}


@pytest.mark.parametrize("url", UNUSABLE.values(), ids=UNUSABLE)
def test_files_that_can_not_be_used_are_named_at_once(place: Place, url: str) -> None:
    """A key without its password, or a file that is no certificate, is a wrong setting: nobody is asked, none waits."""
    began = time.monotonic()
    for using in (lambda: open_stream(place.url(url)), lambda: publish(place.url(url))):
        with pytest.raises(ConfigurationError, match=r"(ca_file|cert_file and key_file) can't be used") as caught:
            using()
        assert "secret" not in str(caught.value)
    assert time.monotonic() - began < IMPATIENCE


def test_least_rights_of_a_publisher(place: Place) -> None:
    """WRITE on the topic is all that a publisher needs; without it the missing right is named."""
    url = "{sasl}?security=SASL_PLAINTEXT&"
    assert publish(place.url(url + login("publisher"))) == [None]
    (unsent,) = publish(place.url(url + login("no-group")))
    assert unsent is not None
    assert "a publisher needs WRITE and DESCRIBE on its topic" in unsent.reason
    assert not unsent.refused


@pytest.mark.parametrize(
    ("user", "said"),
    [
        ("nobody", "this login may not read topic usage-events"),
        ("writer", "allow it READ on topic usage-events"),
        ("no-group", "this login may not join group usageaudit; allow it READ on the group"),
    ],
)
def test_missing_rights_of_a_consumer(place: Place, user: str, said: str) -> None:
    """A login that may not see the topic, not read it, or not join the group is told which right is missing."""
    with pytest.raises(StreamUnavailable, match=re.escape(said)):
        consume(place.url("{sasl}?security=SASL_PLAINTEXT&" + login(user)))


def test_rights_may_go_and_come_back(place: Place) -> None:
    """A consumer that loses its right on the topic is told so each time, and reads on when it has it again."""
    url = place.url("{sasl}?security=SASL_PLAINTEXT&" + login())
    with closing(open_stream(url, limits=BatchLimits(seconds=0.02))) as stream:
        publish(url)
        read_from(stream, 0)
        place.broker.disallow("audit", "topic", TOPIC)
        with pytest.raises(StreamUnavailable, match="allow it READ on topic usage-events"):
            poll_for(stream, PATIENCE)
        place.broker.allow("audit", "topic", TOPIC, "read", "write")
        publish(url)
        read_from(stream, None)


def test_brokers_that_name_themselves_wrongly(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the brokers send clients to an address that does not answer, the setting that does so is named."""
    monkeypatch.setattr(kafka_client, "REQUEST_SECONDS", IMPATIENCE)
    with pytest.raises(StreamUnavailable, match=r"brokers are at 127.0.0.1:9, .* correct advertised.listeners"):
        open_stream(place.url("{astray}")).close()


def test_doctor_says_the_same(place: Place, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """`doctor` shows the likely cause of a refused login, ends with 3, and prints neither traceback nor secret."""
    url, said = SYMPTOMS["wrong password"]
    code = run(["doctor", "--stream", place.url(url), "--store", f"embedded:{tmp_path}", "--format", "ndjson"])
    printed = capsys.readouterr()
    (check,) = [row for line in printed.out.splitlines() if (row := json.loads(line))["check"] == "stream"]
    assert (code, check["status"]) == (3, "unreachable")
    assert said in check["found"]
    assert "Traceback" not in printed.err
    assert "secret" not in printed.out + printed.err


def test_doctor_says_what_it_may_not_see(place: Place, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """With the rights of a consumer alone `doctor` finds the stream well, and says which right the rest needs."""
    url = place.url("{sasl}?security=SASL_PLAINTEXT&" + login())
    assert run(["doctor", "--stream", url, "--store", f"embedded:{tmp_path}", "--format", "ndjson"]) == 0
    rows = {row["check"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert rows["stream"]["status"] == "ok"
    assert "DESCRIBE_CONFIGS" in rows["topic settings"]["todo"]


def test_creating_a_topic_needs_the_right(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """Without CREATE the command says so and ends with 3."""
    url = place.url("{sasl}?security=SASL_PLAINTEXT&" + login() + "&topic=another")
    assert run(["topic", "create", "--replication", "1", "--stream", url]) == 3
    assert "creating needs CREATE" in capsys.readouterr().err
