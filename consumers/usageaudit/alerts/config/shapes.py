"""What an `alerts.yaml` may say: the keys of each mapping, what each holds, and what it means.

The reading takes the names of keys from here; the JSON Schema for editors and the reference of keys are made of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from usageaudit.alerts.config.quiet import DAYS
from usageaudit.alerts.config.settings import EMAIL_PORTS, LISTEN, PAGERDUTY
from usageaudit.policy.shapes import PATHS, TEXT, TEXTS, Key, choice, list_of, map_of, object_of
from usageaudit.verdicts import SEVERITIES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from usageaudit.policy.shapes import Json, Shape

VERSION = 1
"""The version of the form of the file."""
TARGET_NAME = "[a-z0-9]+([-_][a-z0-9]+)*"
"""Names of targets."""
DURATION: Json = {"type": "string", "pattern": "^([0-9]+[dhms])+$"}
CLOCK: Json = {"type": "string", "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]$"}
SECRET_SHAPE: Shape = {
    "env": Key(TEXT, "The variable of the environment that holds it."),
    "file": Key(TEXT, "The file that holds it, from the folder of alerts.yaml; it is read for each delivery."),
}
SECRET: Json = {**object_of(SECRET_SHAPE), "minProperties": 1, "maxProperties": 1}
URL: Json = {"anyOf": [TEXT, SECRET]}
SEVERITY = choice(SEVERITIES)
NAMES: Json = {**list_of(TEXT), "minItems": 1}
GLOBS = NAMES

_TIMEOUT = Key(DURATION, "How long a delivery may take, from 1s to 60s; 10s where it is left out.")
_TEMPLATE = Key(TEXT, "The text that is sent: `{field}` stands for a field of the alert.")

WEBHOOK: Shape = {
    "url": Key(URL, "Where alerts are posted.", required=True),
    "secrets": Key(
        {**list_of(SECRET), "minItems": 1},
        "What deliveries are signed with (`whsec_…`): the newest first, then those that are going out of use.",
        required=True,
    ),
    "timeout": _TIMEOUT,
}
ALERTMANAGER: Shape = {
    "url": Key(URL, "Where Alertmanager is, without /api/v2/alerts.", required=True),
    "token": Key(SECRET, "A bearer token, where it asks for one."),
    "template": _TEMPLATE,
    "timeout": _TIMEOUT,
}
PAGERDUTY_SHAPE: Shape = {
    "routing_key": Key(SECRET, "The key of the integration of Events API v2.", required=True),
    "url": Key(
        TEXT, f"Where events go; {PAGERDUTY} where it is left out, events.eu.pagerduty.com is the one in the EU."
    ),
    "template": _TEMPLATE,
    "timeout": _TIMEOUT,
}
CHANNEL: Shape = {
    "url": Key(SECRET, "The URL that the service gave, which is a secret itself.", required=True),
    "template": _TEMPLATE,
    "timeout": _TIMEOUT,
}
APPRISE: Shape = {
    "own_connections": Key(
        {"enum": [True]},
        "true says that Apprise may connect by itself, past the rules of `network`; without it, it is not used.",
        required=True,
    ),
    **CHANNEL,
}
EMAIL: Shape = {
    "host": Key(TEXT, "The mail server.", required=True),
    "port": Key(
        {"type": "integer", "minimum": 1, "maximum": 65_535},
        "Its port; " + ", ".join(f"{port} for {kind}" for kind, port in EMAIL_PORTS.items()) + " where it is left out.",
    ),
    "security": Key(choice(tuple(EMAIL_PORTS)), "How the way there is encrypted; starttls where it is left out."),
    "username": Key(TEXT, "Who logs in."),
    "password": Key(SECRET, "The password."),
    "from": Key(TEXT, "The address of the sender.", required=True),
    "to": Key(NAMES, "The addresses that are written to.", required=True),
    "subject": Key(TEXT, "The subject, a template."),
    "template": _TEMPLATE,
    "timeout": _TIMEOUT,
}
KAFKA: Shape = {
    "url": Key(URL, "kafka://HOST:PORT?topic=TOPIC, with the options of a stream's URL.", required=True),
    "timeout": _TIMEOUT,
}
KINDS: Mapping[str, tuple[Shape, str]] = {
    "webhook": (WEBHOOK, "Posts JSON that is signed as Standard Webhooks says."),
    "alertmanager": (ALERTMANAGER, "Posts to a Prometheus Alertmanager."),
    "pagerduty": (PAGERDUTY_SHAPE, "Sends events to PagerDuty."),
    "slack": (CHANNEL, "Writes to a channel of Slack, by an incoming webhook."),
    "teams": (CHANNEL, "Writes to a channel of Microsoft Teams, by a workflow."),
    "email": (EMAIL, "Writes e-mail."),
    "kafka": (KAFKA, "Writes to a topic of Kafka."),
    "apprise": (APPRISE, "Tells any service that Apprise knows, by its URL there."),
}
"""The kinds of targets: what each holds, and what it does."""
MATCH: Shape = {
    "severity": Key({**list_of(SEVERITY), "minItems": 1}, "One of these severities."),
    "policy": Key(GLOBS, "Globs of policies, such as hygiene/*."),
    "organization": Key(GLOBS, "Globs of organisations."),
    "application": Key(GLOBS, "Globs of applications."),
    "team": Key(GLOBS, "Globs of teams."),
    "kind": Key(GLOBS, "Globs of kinds: event, or the kind of a finding."),
}
QUIET: Shape = {
    "zone": Key(TEXT, "The time zone of the hours, such as Europe/Berlin.", required=True),
    "from": Key(CLOCK, "When they begin; all day where it and `to` are left out."),
    "to": Key(CLOCK, "When they end; on the next day where that is not after `from`."),
    "days": Key(
        {**list_of(choice(DAYS)), "minItems": 1}, "The days on which they begin; every day where it is left out."
    ),
    "except": Key(list_of(SEVERITY), "Severities that do not wait."),
}
ESCALATE: Shape = {
    "after": Key(DURATION, "How long is waited for somebody to acknowledge, from 1m to 30d.", required=True),
    "to": Key(NAMES, "The targets that are told then.", required=True),
}
ROUTE: Shape = {
    "name": Key(TEXT, "What it is called in the record of deliveries; `route 1` and so on where it is left out."),
    "match": Key(object_of(MATCH), "What it takes: all that is named must fit; everything where it is left out."),
    "to": Key(NAMES, "The targets that are told.", required=True),
    "quiet": Key(object_of(QUIET), "Hours in which deliveries wait until they end."),
    "escalate": Key(object_of(ESCALATE), "Who else is told where nobody acknowledges."),
    "proceed": Key({"type": "boolean"}, "Whether the routes below are looked at, too."),
}
GATHER: Shape = {
    "dedup_by": Key(PATHS, "Violations with equal values of these fields are one alert."),
    "for": Key(DURATION, "For how long they are, from 1s to 366d; 1h where it is left out."),
}
ACKNOWLEDGE: Shape = {
    "url": Key(TEXT, "Where people reach the port below: the beginning of every link.", required=True),
    "secret": Key(SECRET, "What links are signed with: 16 characters or more.", required=True),
    "former": Key(list_of(SECRET), "Secrets that are going out of use: links that they signed hold, too."),
    "token": Key(SECRET, "What programs show that acknowledge; none may where it is left out. 16 characters or more."),
    "listen": Key(TEXT, f"HOST:PORT that is listened at; {LISTEN} where it is left out."),
}
NETWORK: Shape = {
    "allow": Key(TEXTS, "Networks and hosts that may be reached although they are loopback, private or link-local."),
}
RETRY: Shape = {
    "first": Key(DURATION, "About how long the first wait is; 1s where it is left out."),
    "longest": Key(DURATION, "How long the longest wait is; 15m where it is left out."),
    "give_up": Key(DURATION, "When a delivery becomes a dead letter; 24h where it is left out."),
}
TARGET: Json = {
    "type": "object",
    "properties": {kind: {**object_of(shape), "description": doc} for kind, (shape, doc) in KINDS.items()},
    "additionalProperties": False,
    "minProperties": 1,
    "maxProperties": 1,
}
ALERTS: Shape = {
    "alerts": Key({"enum": [VERSION]}, "The version of the form of this file.", required=True),
    "targets": Key(map_of(TARGET, TARGET_NAME), "Who can be told, by a name of your own.", required=True),
    "routes": Key(
        list_of(object_of(ROUTE)), "Who is told of what; the first that fits ends the search.", required=True
    ),
    "gather": Key(object_of(GATHER), "How violations are gathered whose policy does not say."),
    "acknowledge": Key(object_of(ACKNOWLEDGE), "How alerts are acknowledged."),
    "network": Key(object_of(NETWORK), "What deliveries may reach."),
    "retry": Key(object_of(RETRY), "How a delivery is tried again."),
}
SECTIONS: Mapping[str, Shape] = {
    "The file": ALERTS,
    **{f"`{kind}`": shape for kind, (shape, _) in KINDS.items()},
    "A secret": SECRET_SHAPE,
    "A route": ROUTE,
    "`match`": MATCH,
    "`quiet`": QUIET,
    "`escalate`": ESCALATE,
    "`gather`": GATHER,
    "`acknowledge`": ACKNOWLEDGE,
    "`network`": NETWORK,
    "`retry`": RETRY,
}
"""The mappings of the file by the headings of their reference."""
