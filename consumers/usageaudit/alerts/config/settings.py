"""What an `alerts.yaml` says, read: who is told, of what, when, and by which secrets."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from ipaddress import IPv4Network, IPv6Network

    from usageaudit.alerts.config.quiet import Quiet
    from usageaudit.alerts.config.secrets import Secret, Url
    from usageaudit.alerts.config.templates import Template
    from usageaudit.alerts.model import Alert
    from usageaudit.policy.language import Path
    from usageaudit.verdicts import Severity

SECONDS = 10.0
"""How long a delivery may take where nothing else is said."""
PAGERDUTY = "https://events.pagerduty.com/v2/enqueue"
LISTEN = "127.0.0.1:9465"
EmailSecurity = Literal["starttls", "tls", "none"]
EMAIL_PORTS: Mapping[EmailSecurity, int] = MappingProxyType({"starttls": 587, "tls": 465, "none": 25})
"""The ports of submission (RFC 8314, RFC 6409), and of mail between servers."""


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """A receiver of Standard Webhooks. All secrets sign, the first is the newest."""

    name: str
    url: Url
    secrets: tuple[Secret, ...]
    seconds: float = SECONDS


@dataclass(frozen=True, slots=True)
class AlertmanagerSettings:
    """A Prometheus Alertmanager; `url` is without `/api/v2/alerts`, `token` is a bearer token."""

    name: str
    url: Url
    token: Secret | None = None
    template: Template | None = None
    seconds: float = SECONDS


@dataclass(frozen=True, slots=True)
class PagerDutySettings:
    """A service of PagerDuty, by the routing key of its integration of Events API v2; `url` is where events go."""

    name: str
    routing_key: Secret
    url: str = PAGERDUTY
    template: Template | None = None
    seconds: float = SECONDS


@dataclass(frozen=True, slots=True)
class SlackSettings:
    """A channel of Slack, by the URL of its incoming webhook."""

    name: str
    url: Secret
    template: Template | None = None
    seconds: float = SECONDS


@dataclass(frozen=True, slots=True)
class TeamsSettings:
    """A channel of Microsoft Teams, by the URL of its workflow."""

    name: str
    url: Secret
    template: Template | None = None
    seconds: float = SECONDS


@dataclass(frozen=True, slots=True)
class EmailSettings:
    """Addresses that are written to by way of a mail server; `username` and `password` are there both or not at all."""

    name: str
    host: str
    port: int
    security: EmailSecurity
    sender: str
    to: tuple[str, ...]
    username: str = ""
    password: Secret | None = None
    subject: Template | None = None
    template: Template | None = None
    seconds: float = SECONDS


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """A topic of Kafka; `url` is that of a stream, as `usageaudit.stream_url.parse_stream_url` reads it."""

    name: str
    url: Url
    seconds: float = SECONDS


@dataclass(frozen=True, slots=True)
class AppriseSettings:
    """A URL of Apprise, for all that has no kind of its own.

    Apprise connects by itself, past the rules of the network, which `own_connections` allows; else it is not used.
    """

    name: str
    url: Secret
    own_connections: bool = False
    template: Template | None = None
    seconds: float = SECONDS


TargetSettings = (
    WebhookSettings
    | AlertmanagerSettings
    | PagerDutySettings
    | SlackSettings
    | TeamsSettings
    | EmailSettings
    | KafkaSettings
    | AppriseSettings
)


@dataclass(frozen=True, slots=True)
class Network:
    """What may be reached although it is loopback, private or link-local: networks, and hosts in small letters."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    hosts: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Match:
    """What a route takes: each is a tuple of globs, one of which must fit; an empty tuple takes everything."""

    severity: tuple[Severity, ...] = ()
    policy: tuple[str, ...] = ()
    organization: tuple[str, ...] = ()
    application: tuple[str, ...] = ()
    team: tuple[str, ...] = ()
    kind: tuple[str, ...] = ()

    def takes(self, alert: Alert) -> bool:
        """Return whether an alert fits; capital and small letters differ."""
        pairs = (
            (self.severity, alert.severity),
            (self.policy, alert.policy_id),
            (self.organization, alert.organization),
            (self.application, alert.application),
            (self.team, alert.team),
            (self.kind, alert.kind),
        )
        return all(not globs or any(fnmatchcase(value, glob) for glob in globs) for globs, value in pairs)


@dataclass(frozen=True, slots=True)
class Escalation:
    """Who else is told where nobody has acknowledged an alert `after` so many seconds."""

    after: float
    to: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Route:
    """Which alerts go to which targets; `proceed` says that routes behind it are looked at, too."""

    name: str
    to: tuple[str, ...]
    match: Match
    quiet: Quiet | None = None
    escalate: Escalation | None = None
    proceed: bool = False


@dataclass(frozen=True, slots=True)
class Gathering:
    """How violations are gathered whose policy has no `alert`, as in `usageaudit.policy.model.Alert`.

    One alert for equal values of `dedup_by` within `window`, in microseconds.
    """

    dedup_by: tuple[Path, ...] = (("application", "name"),)
    window: int = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Acknowledging:
    """Where alerts are acknowledged: the public URL, the secret that signs links, and HOST:PORT that is listened at.

    Links that a secret of `former` signed hold, too; `token` is what programs show, none may where it is None.
    """

    url: str
    secret: Secret
    listen: str = LISTEN
    former: tuple[Secret, ...] = ()
    token: Secret | None = None


@dataclass(frozen=True, slots=True)
class Retry:
    """How a delivery is tried again, in seconds: the first and the longest wait, and when it is given up."""

    first: float = 1.0
    longest: float = 900.0
    give_up: float = 86_400.0


@dataclass(frozen=True, slots=True)
class AlertsConfig:
    """All of an `alerts.yaml`; `targets` are by name, and every name in a route is one of them."""

    targets: Mapping[str, TargetSettings]
    routes: tuple[Route, ...] = ()
    gathering: Gathering = field(default_factory=Gathering)
    acknowledging: Acknowledging | None = None
    network: Network = field(default_factory=Network)
    retry: Retry = field(default_factory=Retry)

    def routes_for(self, alert: Alert) -> tuple[Route, ...]:
        """Return the routes that take an alert, in their order; none where nobody is to be told of it."""
        found: list[Route] = []
        for route in self.routes:
            if route.match.takes(alert):
                found.append(route)
                if not route.proceed:
                    break
        return tuple(found)
