"""The port that takes acknowledgements: only a POST by who may changes anything, whatever else is sent."""

from __future__ import annotations

import http.client
import json
import socket
import time
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from usageaudit.alerts.acknowledging.links import AcknowledgeLink
from usageaudit.alerts.acknowledging.serving import Serving
from usageaudit.alerts.acknowledging.throttle import Throttle
from usageaudit.alerts.dispatcher import acknowledge
from usageaudit.operating.port import HttpPort, PortLimits
from usageaudit.stores.address import open_store
from usageaudit.stores.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from usageaudit.stores.port import Store

ALERT, TOKEN = "a1" * 16, "t\u00f6k\u20acn" * 8
_OPENED = """INSERT INTO alert_decisions (violation_id, recorded, outcome, alert_id, kind, policy_id, policy_version,
    severity, group, event_time, decided_at)
SELECT {alert:String}, now64(3), 'opened', {alert:String}, 'event', 'pack/<script>x</script>', 1, 'critical',
    map('actor.id', 'u-person'), now64(6), now64(3)"""
_COUNT = "SELECT count() FROM alert_acknowledgements WHERE alert_id = {alert:String}"


@dataclass(frozen=True, slots=True)
class Held:
    """A secret that is here."""

    text: str

    def reveal(self) -> str:
        """Return it."""
        return self.text


@dataclass(slots=True)
class Asked:
    """A port, its store, and its links."""

    store: Store
    number: int
    serving: Serving
    link: AcknowledgeLink = field(default_factory=lambda: AcknowledgeLink("http://x", Held("s" * 32)))

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str | bytes] | None = None
    ) -> tuple[int, str, dict[str, str]]:
        """Send one request, and return status, body and headers."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.number, timeout=20)) as connection:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode(), dict(answer.getheaders())

    def path(self, alert: str) -> str:
        """Return the path of a link."""
        return self.link.for_alert(alert).removeprefix("http://x")

    def opened(self, alert: str) -> str:
        """Open an alert and return its id."""
        self.store.execute(_OPENED, {"alert": alert})
        return alert

    def count(self, alert: str) -> int:
        """Return how many acknowledgements there are of an alert."""
        return int(self.store.execute(_COUNT, {"alert": alert}).rows[0][0])


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    """Yield a port over an embedded store."""
    folder: Path = tmp_path_factory.mktemp("acknowledging")
    store = open_store(f"embedded:{folder}")
    migrate(store)
    own = store.another()
    link = AcknowledgeLink("http://x", Held("s" * 32))
    many = 10**9
    serving = Serving(own, link, Held(TOKEN), acknowledge, Throttle(failures=many), Throttle(failures=many))
    port = HttpPort("127.0.0.1", 0, lambda *_: None, PortLimits(seconds=10), takes=serving)
    port.open()
    yield Asked(store, port.port, serving)
    port.close()
    own.close()
    store.close()


def test_only_a_post_acknowledges(asked: Asked) -> None:
    """GET and HEAD of a link change nothing, however often; POST acknowledges once."""
    alert = asked.opened(ALERT)
    for method in ("GET", "HEAD", "GET", "PUT", "DELETE", "OPTIONS"):
        asked.ask(method, asked.path(alert))
        assert asked.count(alert) == 0
    for _ in range(2):
        assert asked.ask("POST", asked.path(alert), b"by=Ada&comment=seen")[0] == 200
        assert asked.count(alert) == 1


def test_the_page_shows_facts_and_nothing_personal(asked: Asked) -> None:
    """Texts are escaped, nobody's id is on it, and its headers let it do nothing but send its form."""
    alert = asked.opened("b2" * 16)
    status, page, headers = asked.ask("GET", asked.path(alert))
    assert status == 200
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert "u-person" not in page
    assert "src=" not in page
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    for name, value in {
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }.items():
        assert headers[name] == value


def test_links_that_are_not_good_say_nothing(asked: Asked) -> None:
    """A tampered link is 403, an expired one and one of an alert that is not there 410, by POST, too."""
    alert = asked.opened("c3" * 16)
    late = AcknowledgeLink("http://x", Held("s" * 32), seconds=-10).for_alert(alert).removeprefix("http://x")
    other = AcknowledgeLink("http://x", Held("o" * 32)).for_alert(alert).removeprefix("http://x")
    for method in ("GET", "POST"):
        assert asked.ask(method, other, b"")[0] == 403
        assert asked.ask(method, late, b"")[0] == 410
        assert asked.ask(method, asked.path("d4" * 16), b"")[0] == 410
        assert alert not in asked.ask(method, other, b"")[1]
    assert asked.count(alert) == 0


def test_the_api_wants_its_token(asked: Asked) -> None:
    """Without the token every path is 403, whether or not there is such an alert; with it an alert is acknowledged."""
    alert = asked.opened("e5" * 16)
    good = {"Authorization": f"Bearer {TOKEN}".encode()}
    for wrong in (
        dict[str, bytes](),
        {"Authorization": b"Bearer x"},
        {"Authorization": f"Basic {TOKEN}".encode()},
        {"Authorization": TOKEN.encode()},
    ):
        for path in (f"/alerts/{alert}", "/alerts/none"):
            assert asked.ask("GET", path, headers=wrong)[:2] == (403, "Forbidden\n")
        assert asked.ask("POST", f"/alerts/{alert}/acknowledge", b"{}", headers=wrong)[0] == 403
    assert asked.ask("GET", "/alerts/none", headers=good)[0] == 404
    assert asked.ask("GET", f"/alerts/{alert}/acknowledge", headers=good)[0] == 405
    assert asked.count(alert) == 0
    for body in (b"[]", b"{", b'{"by": 5}', b'{"other": ""}', b"[" * 9_000, json.dumps({"by": "x" * 101}).encode()):
        assert asked.ask("POST", f"/alerts/{alert}/acknowledge", body, headers=good)[0] == 400
    status, text, _ = asked.ask("POST", f"/alerts/{alert}/acknowledge", b'{"by": "Ada", "comment": "ok"}', headers=good)
    assert (status, json.loads(text)["acknowledged"]) == (200, True)
    assert asked.count(alert) == 1


def test_failed_tries_are_bounded(asked: Asked) -> None:
    """After so many wrong tokens an address is answered 429, the API also with a good one, but never a good link."""
    alert, good = asked.opened("f6" * 16), {"Authorization": f"Bearer {TOKEN}".encode()}
    asked.serving.throttle, asked.serving.links = Throttle(failures=3), Throttle(failures=3)
    try:
        assert [asked.ask("GET", "/acknowledge/guess")[0] for _ in range(5)] == [403, 403, 403, 429, 429]
        assert asked.ask("GET", asked.path(alert))[0] == 200
        assert asked.ask("GET", f"/alerts/{alert}", headers=good)[0] == 200
        assert [asked.ask("GET", "/alerts/x")[0] for _ in range(5)] == [403, 403, 403, 429, 429]
        assert asked.ask("GET", f"/alerts/{alert}", headers=good)[0] == 429
        assert asked.ask("POST", asked.path(alert), b"")[0] == 200
    finally:
        asked.serving.throttle, asked.serving.links = Throttle(failures=10**9), Throttle(failures=10**9)
    assert asked.ask("GET", f"/alerts/{alert}", headers=good)[0] == 200


def _raw(asked: Asked, sent: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", asked.number), 20) as connection:
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            found = b""
            while part := connection.recv(65_536):
                found += part
        except ConnectionError:
            return b""
        return found


@given(st.binary(max_size=200))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_junk_changes_nothing(asked: Asked, junk: bytes) -> None:
    """Whatever body, header or path is sent without a good token, nothing is acknowledged and the next is served."""
    heads = (b"", b"POST /acknowledge/", b"POST /alerts/x HTTP/1.1\r\nContent-Length: 5\r\n\r\n")
    for head in heads:
        answer = _raw(asked, head + junk)
        assert not answer or answer.split(b" ")[1] in (b"400", b"403", b"404", b"405", b"411")
    assert asked.ask("GET", "/livez")[0] == 200


def test_bodies_are_bounded_in_size_form_and_time(asked: Asked) -> None:
    """A body that is too large, in pieces, or of no known length is refused; one that never comes is hung up on."""
    path = asked.path(ALERT).encode()
    for said, status in (
        (b"Content-Length: 99999999", b"413"),
        (b"Content-Length: -1", b"400"),
        (b"Content-Length: 1\r\nContent-Length: 2", b"400"),
        (b"Content-Length : 1", b"400"),
        (b"X: y\r\n Content-Length: 1", b"400"),
        (b"Transfer-Encoding: chunked", b"411"),
        (b"\r\n".join(b"X: y" for _ in range(100)), b"400"),
    ):
        answer = _raw(asked, b"POST " + path + b" HTTP/1.1\r\n" + said + b"\r\n\r\n")
        assert answer.split(b" ")[1] == status, said
    hasty = HttpPort("127.0.0.1", 0, lambda *_: None, PortLimits(seconds=0.3), takes=asked.serving)
    hasty.open()
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", hasty.port), 20) as connection:
        connection.sendall(b"POST " + path + b" HTTP/1.1\r\nContent-Length: 10\r\n\r\nby=")
        assert connection.recv(1) == b""
    assert time.monotonic() - began < 15
    hasty.close()
