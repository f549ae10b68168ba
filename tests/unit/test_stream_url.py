from __future__ import annotations

import dataclasses
import string
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from kafka import KafkaProducer

from usageaudit.errors import ConfigurationError
from usageaudit.stores.address import EmbeddedAddress, parse_store_url
from usageaudit.stream_url import EmbeddedStreamAddress, KafkaStreamAddress, parse_stream_url

secrets = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=6, max_size=20)
kafka_names = st.text(string.ascii_letters + string.digits + "._-", min_size=1, max_size=249).filter(
    lambda name: name not in (".", "..")
)
hosts = st.lists(
    st.tuples(st.from_regex(r"[a-z][a-z0-9-]{0,20}(\.[a-z]{2,5})?", fullmatch=True), st.integers(1, 65_535)),
    min_size=1,
    max_size=4,
)
SASL = "security=SASL_SSL&sasl_mechanism=PLAIN"


def _kafka(url: str) -> KafkaStreamAddress:
    address = parse_stream_url(url)
    assert isinstance(address, KafkaStreamAddress)
    return address


def _refusal(url: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        parse_stream_url(url)
    return str(caught.value)


@given(hosts, kafka_names, kafka_names, kafka_names, st.integers(500, 1_800_000))
def test_what_a_kafka_url_says_is_what_the_address_holds(
    servers: list[tuple[str, int]], topic: str, group: str, instance: str, timeout: int
) -> None:
    """Servers, topic, group, instance and session time-out come back as they were written."""
    written = ",".join(f"{host}:{port}" for host, port in servers)
    address = _kafka(f"kafka://{written}?topic={topic}&group={group}&instance={instance}&session_timeout_ms={timeout}")
    assert address.servers == tuple(written.split(","))
    assert (address.topic, address.group, address.instance) == (topic, group, instance)
    assert address.session_timeout_ms == timeout


def test_defaults() -> None:
    """A server alone is enough: port 9092, topic usage-events, group usageaudit, no security."""
    address = _kafka("kafka://broker")
    assert (address.servers, address.topic, address.group) == (("broker:9092",), "usage-events", "usageaudit")
    assert address.client_settings() == {"bootstrap_servers": ["broker:9092"], "security_protocol": "PLAINTEXT"}


@pytest.mark.parametrize("url", ["embedded:~/data", "embedded://~/data", "embedded:%7E/data"])
def test_both_urls_mean_the_same_home(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder in the home folder is one place, whether the stream's URL names it or the store's."""
    monkeypatch.setenv("HOME", str(tmp_path))
    address, store = parse_stream_url(url), parse_store_url(url)
    assert isinstance(address, EmbeddedStreamAddress)
    assert isinstance(store, EmbeddedAddress)
    assert address.directory == store.directory == tmp_path / "data"
    (tmp_path / "ca.pem").touch()
    assert _kafka("kafka://h?security=SSL&ca_file=~/ca.pem").ca_file == tmp_path / "ca.pem"


def test_a_folder_may_be_called_like_a_home() -> None:
    """Behind `./` a tilde is a letter like others, and nobody's home is looked for in vain."""
    for url in ("embedded:./~root", "embedded:~no-such-user/data"):
        address = parse_stream_url(url)
        assert isinstance(address, EmbeddedStreamAddress)
        assert address.directory == Path(url.removeprefix("embedded:"))
    assert parse_stream_url(str(EmbeddedStreamAddress(Path("~root")))) == EmbeddedStreamAddress(Path("~root"))


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40))
def test_any_folder_can_be_named(folder: str) -> None:
    """A percent-encoded folder comes back, and what `str` writes is the same folder again."""
    address = parse_stream_url(f"embedded:{quote(folder)}")
    assume(not folder.startswith(("//", "~")))
    assert isinstance(address, EmbeddedStreamAddress)
    assert address.directory == Path(folder)
    assert parse_stream_url(str(address)) == address


@pytest.mark.parametrize("url", ["embedded:./data", "embedded:data", "embedded://data"])
def test_relative_folders(url: str) -> None:
    """A relative folder may be written with and without a dot, and with two slashes."""
    assert parse_stream_url(url) == EmbeddedStreamAddress(Path("data"))


def test_absolute_folders() -> None:
    """An absolute folder may be written with one slash and with three."""
    assert parse_stream_url("embedded:/srv/audit") == EmbeddedStreamAddress(Path("/srv/audit"))
    assert parse_stream_url("embedded:///srv/audit") == EmbeddedStreamAddress(Path("/srv/audit"))


@given(secrets, secrets)
def test_a_login_reaches_the_client_and_nothing_else(user: str, password: str) -> None:
    """Both ways to write a login give the same address; the password is in the client's settings and in no text."""
    before = _kafka(f"kafka://{quote(user, safe='')}:{quote(password, safe='')}@broker?{SASL}")
    as_options = _kafka(f"kafka://broker?{SASL}&username={quote(user, safe='')}&password={quote(password, safe='')}")
    assert before == as_options
    assert before.client_settings()["sasl_plain_username"] == user
    assert before.client_settings()["sasl_plain_password"] == password
    other = dataclasses.replace(before, password="another")
    assert repr(before) == repr(other)
    assert str(before) == str(other)


def test_a_plus_stays_a_plus() -> None:
    """Values are percent-decoded only: a password with a plus needs no escape."""
    assert _kafka(f"kafka://u:a+b@broker?{SASL}").password == "a+b"


@given(st.text("!$*~^|{}", min_size=8, max_size=12), st.sampled_from("?/#:&,@"))
def test_no_part_of_a_password_is_shown_in_an_error(password: str, special: str) -> None:
    """A password with a special character that was not escaped may be misread, but is never printed."""
    half = len(password) // 2
    message = _refusal(f"kafka://u:{password[:half]}{special}{password[half:]}@broker?security=SASL_SLL")
    assert password[:half] not in message
    assert password[half:] not in message


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("kafka://b?securty=SSL", "unknown option 'securty', did you mean security?"),
        ("kafka://b?zzz=1", "unknown option 'zzz'; known are topic, group"),
        ("kafka://b?security=sasl_ssl", "security='sasl_ssl' is none of the known, did you mean SASL_SSL?"),
        (f"kafka://u:p@b?{SASL}".replace("PLAIN", "SCRAM-SHA512"), "did you mean SCRAM-SHA-512?"),
        ("kafka://b?security=SASL_SSL&username=u", "needs sasl_mechanism and password"),
        ("kafka://u:p@b", "username and password without security=SASL_SSL"),
        ("kafka://b?security=SSL&ca_file=/no/such", "ca_file='/no/such' is no file"),
        (f"kafka://b?ca_file={quote(__file__)}", "ca_file without security=SSL"),
        (f"kafka://b?security=SSL&key_file={quote(__file__)}", "of no use without cert_file"),
        ("kafka://b?session_timeout_ms=fast", "session_timeout_ms='fast'"),
        ("kafka://b?session_timeout_ms=499", "from 500 to 1800000"),
        ("kafka://b?topic=a&topic=b", "option topic is given twice"),
        ("kafka://b?topic=a%20b", "topic='a b'"),
        ("kafka://b?topic=..", "topic='..'"),
        (f"kafka://u:p@b?{SASL}&password=q", "login is given twice"),
        ("kafka://b:0", "HOST:PORT with a port from 1 to 65535"),
        ("kafka://b:99999", "HOST:PORT with a port from 1 to 65535"),
        ("kafka://", "HOST or HOST:PORT"),
        ("kafka://a,,b", "HOST or HOST:PORT"),
        ("kafka:b", "write embedded:./usageaudit-data or kafka://host:9092"),
        ("redis://b", "'redis' is no kind of stream"),
        ("broker:9092", "'broker' is no kind of stream"),
        ("", "this is no stream URL"),
        ("embedded:", "names no folder"),
        ("embedded:a%00b", "names no folder"),
        ("embedded:a?group=", "group=''"),
        ("embedded:a?instance=i", "unknown option 'instance'"),
    ],
)
def test_what_is_wrong_is_named(url: str, named: str) -> None:
    """Every wrong part is refused, and the message names it and the nearest that is right."""
    assert named in _refusal(url)


def test_everything_wrong_is_said_at_once() -> None:
    """One message names all problems of a URL."""
    message = _refusal("kafka://b:0?topc=x&security=TLS&session_timeout_ms=-1")
    assert all(word in message for word in ("topc", "TLS", "session_timeout_ms", "HOST:PORT"))


def test_settings_are_those_of_the_client(tmp_path: Path) -> None:
    """Every setting that an address gives is one that kafka-python knows."""
    pem = tmp_path / "x.pem"
    pem.touch()
    files = f"ca_file={pem}&cert_file={pem}&key_file={pem}&key_password=k"
    settings = _kafka(f"kafka://u:p@b,[::1]:9093?{SASL}&{files}").client_settings()
    assert set(settings) <= set(KafkaProducer.DEFAULT_CONFIG)
    assert settings["ssl_cafile"] == str(pem)
    assert settings["bootstrap_servers"] == ["b:9092", "[::1]:9093"]
