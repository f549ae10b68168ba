"""What is at each path of the dispatcher's port, and for whom.

    GET   /acknowledge/TOKEN        the page of an alert; changes nothing, since mail scanners follow links
    POST  /acknowledge/TOKEN        acknowledges it
    GET   /alerts/ID                its state, as JSON                      (bearer token)
    POST  /alerts/ID/acknowledge    acknowledges it, JSON {by, comment}     (bearer token)
    GET   /livez                    says that this is here

Who shows nothing valid learns nothing: not whether an alert is there, nor what was wrong.
"""

from __future__ import annotations

import hmac
import json
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import structlog

from usageaudit.alerts.acknowledging import page
from usageaudit.alerts.acknowledging.facts import Facts, facts_of
from usageaudit.alerts.acknowledging.links import PATH, AcknowledgeLink, LinkExpired, LinkRefused, checked_secret
from usageaudit.alerts.acknowledging.throttle import Throttle
from usageaudit.errors import ConfigurationError, QueryError, StoreUnavailable
from usageaudit.operating.port import Answer, plain_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from usageaudit.alerts.acknowledging.links import Revealing
    from usageaudit.operating.requests import Request
    from usageaudit.stores.port import Store

    Acknowledge = Callable[[Store, str, str, str, str], None]
    """Keeps that an alert was acknowledged: its id, by whom, by which way, and a comment."""

API = "/alerts/"
log = structlog.get_logger("usageaudit.alerts")


class _BadRequest(Exception):
    """A body that is not what is asked for; the message says what is."""


@dataclass(slots=True)
class Serving:
    """Answers requests; for one thread. `token` None is no API at all.

    Wrong links and wrong tokens are counted apart. A link that is good is taken however many wrong ones came from its
    address, which behind a proxy is everybody's: a link can't be guessed, so that nothing is won by refusing it.
    """

    store: Store
    link: AcknowledgeLink
    token: Revealing | None
    acknowledge: Acknowledge
    throttle: Throttle = field(default_factory=Throttle)
    links: Throttle = field(default_factory=Throttle)

    def __call__(self, request: Request) -> Answer:
        """Return the answer to a request."""
        if request.path == "/livez":
            return _json(HTTPStatus.OK, {"alive": True})
        try:
            if request.path.startswith(PATH):
                return self._by_link(request, request.path.removeprefix(PATH))
            if request.path.startswith(API) and self.token is not None:
                return self._by_api(request, self.token)
        except (StoreUnavailable, QueryError, ConfigurationError) as error:
            log.warning("an acknowledgement could not be taken", cause=str(error))
            return plain_answer(HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": "10"})
        return plain_answer(HTTPStatus.NOT_FOUND)

    def _by_link(self, request: Request, token: str) -> Answer:
        if request.method not in ("GET", "HEAD", "POST"):
            return plain_answer(HTTPStatus.METHOD_NOT_ALLOWED, {"Allow": "GET, HEAD, POST"})
        try:
            alert_id = self.link.alert_of(token)
        except LinkExpired:
            return page.refused(HTTPStatus.GONE, "This link is no longer good")
        except LinkRefused:
            if self.links.refuses(request.peer):
                return _too_many(self.links)
            self.links.failed(request.peer)
            return page.refused(HTTPStatus.FORBIDDEN, "This link is not good")
        facts = facts_of(self.store, alert_id)
        if facts is None:
            return page.refused(HTTPStatus.GONE, "This link is no longer good")
        if request.method != "POST":
            return page.ask(facts)
        try:
            by, comment = _form(request)
        except _BadRequest:
            return page.refused(HTTPStatus.BAD_REQUEST, "The form was not understood")
        return page.done(self._keep(facts, by, "link", comment))

    def _by_api(self, request: Request, expected: Revealing) -> Answer:
        if self.throttle.refuses(request.peer):
            return _too_many(self.throttle)
        if not _authorized(request, expected):
            self.throttle.failed(request.peer)
            return plain_answer(HTTPStatus.FORBIDDEN)
        alert_id, _, verb = request.path.removeprefix(API).partition("/")
        allowed = {"": ("GET", "HEAD"), "acknowledge": ("POST",)}.get(verb)
        if allowed is None:
            return plain_answer(HTTPStatus.NOT_FOUND)
        if request.method not in allowed:
            return plain_answer(HTTPStatus.METHOD_NOT_ALLOWED, {"Allow": ", ".join(allowed)})
        facts = facts_of(self.store, alert_id)
        if facts is None:
            return plain_answer(HTTPStatus.NOT_FOUND)
        if verb:
            try:
                by, comment = _object(request)
            except _BadRequest as error:
                return _json(HTTPStatus.BAD_REQUEST, {"error": str(error)})
            facts = self._keep(facts, by, "api", comment)
        return _json(HTTPStatus.OK, _shown(facts))

    def _keep(self, facts: Facts, by: str, via: str, comment: str) -> Facts:
        """Keep an acknowledgement, unless there is one, and return how the alert stands then."""
        if facts.acknowledged:
            return facts
        self.acknowledge(self.store, facts.alert_id, by, via, comment)
        log.info("alert acknowledged", alert=facts.alert_id, via=via)
        return facts_of(self.store, facts.alert_id) or facts


def _too_many(throttle: Throttle) -> Answer:
    return plain_answer(HTTPStatus.TOO_MANY_REQUESTS, {"Retry-After": f"{throttle.seconds:.0f}"})


def _authorized(request: Request, expected: Revealing) -> bool:
    scheme, _, shown = request.headers.get("authorization", "").partition(" ")
    right = hmac.compare_digest(shown.strip().encode("latin-1"), checked_secret(expected).encode())
    return right and scheme.lower() == "bearer"


def _form(request: Request) -> tuple[str, str]:
    """Return who and what comment a form says. Raises _BadRequest."""
    try:
        fields = parse_qs(request.body.decode(), max_num_fields=10, errors="strict")
    except ValueError:
        raise _BadRequest("no form") from None
    return _said(fields.get("by", [""])[0], fields.get("comment", [""])[0])


def _object(request: Request) -> tuple[str, str]:
    """Return who and what comment a JSON object says; no body says neither. Raises _BadRequest."""
    try:
        found = json.loads(request.body or b"{}")
    except (ValueError, RecursionError):
        raise _BadRequest("the body is no JSON") from None
    if not isinstance(found, dict) or set(found) - {"by", "comment"}:
        raise _BadRequest("the body is a JSON object with `by` and `comment`, nothing else")
    by, comment = found.get("by", ""), found.get("comment", "")
    if not isinstance(by, str) or not isinstance(comment, str):
        raise _BadRequest("`by` and `comment` are texts")
    return _said(by, comment)


def _said(by: str, comment: str) -> tuple[str, str]:
    """Return both, cleaned. Raises _BadRequest where one is too long or no text that can be kept."""
    if len(by) > page.MOST_BY or len(comment) > page.MOST_COMMENT:
        raise _BadRequest(f"`by` has at most {page.MOST_BY} characters, `comment` {page.MOST_COMMENT}")
    try:
        (by + comment).encode()
    except UnicodeEncodeError:
        raise _BadRequest("a text is no Unicode") from None
    return by.strip(), comment.strip()


def _shown(facts: Facts) -> Mapping[str, object]:
    return {
        "alert_id": facts.alert_id,
        "policy_id": facts.policy_id,
        "severity": facts.severity,
        "first_time": facts.first_time,
        "status": facts.status,
        "acknowledged": bool(facts.acknowledged),
        "acknowledged_at": facts.acknowledged or None,
    }


def _json(status: HTTPStatus, found: Mapping[str, object]) -> Answer:
    return Answer(status, "application/json", json.dumps(found).encode() + b"\n")
