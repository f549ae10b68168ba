"""An `alerts.yaml` that says everything there is to say, and the secrets that it names."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
"""The key of the examples of Standard Webhooks."""
SECRETS = {
    "WEBHOOK_KEY": KEY,
    "BARE_KEY": KEY.removeprefix("whsec_"),
    "PD_KEY": "0123456789abcdef0123456789abcdef",
    "SLACK_URL": "https://hooks.slack.com/services/T0/B0/secret-of-slack",
    "TEAMS_URL": "https://example.webhook.office.com/secret-of-teams",
    "APPRISE_URL": "discord://123/secret-of-discord",
    "MAIL_PASSWORD": "secret-of-mail",
    "SIGNING": "secret-that-signs-links",
    "TOKEN": "secret-of-programs",
}
FULL: dict[str, Any] = {
    "alerts": 1,
    "targets": {
        "soc": {
            "webhook": {
                "url": "https://hooks.example.org/alerts",
                "secrets": [{"file": "soc.key"}, {"env": "WEBHOOK_KEY"}],
                "timeout": "5s",
            }
        },
        "prom": {
            "alertmanager": {"url": "http://am.internal:9093", "token": {"env": "TOKEN"}, "template": "{message}"}
        },
        "pager": {"pagerduty": {"routing_key": {"env": "PD_KEY"}, "url": "https://events.eu.pagerduty.com/v2/enqueue"}},
        "chat": {"slack": {"url": {"env": "SLACK_URL"}, "template": "{severity}: {message} {{kept}}"}},
        "team": {"teams": {"url": {"env": "TEAMS_URL"}, "timeout": "1m"}},
        "duty": {
            "email": {
                "host": "mail.example.org", "port": 465, "security": "tls", "username": "audit",
                "password": {"env": "MAIL_PASSWORD"}, "from": "audit@example.org", "to": ["duty@example.org"],
                "subject": "{policy_id}", "template": "{message}",
            }
        },
        "topic": {"kafka": {"url": "kafka://127.0.0.1:9092?topic=violations"}},
        "rest": {"apprise": {"url": {"env": "APPRISE_URL"}, "own_connections": True}},
    },
    "routes": [
        {
            "name": "night",
            "match": {
                "severity": ["high", "critical"], "policy": ["hygiene/*"], "organization": ["insurer*"],
                "application": ["claims-?"], "team": ["[a-c]*"], "kind": ["event"],
            },
            "to": ["soc", "pager"],
            "quiet": {
                "zone": "Europe/Berlin", "from": "22:00", "to": "06:00", "days": ["mon", "sun"], "except": ["critical"]
            },
            "escalate": {"after": "30m", "to": ["duty"]},
            "proceed": True,
        },
        {"to": ["chat"]},
    ],
    "gather": {"dedup_by": ["application.name", "model.name"], "for": "2h"},
    "acknowledge": {
        "url": "https://audit.example.org/", "secret": {"env": "SIGNING"}, "listen": "127.0.0.1:9465",
        "former": [{"env": "SIGNING"}], "token": {"env": "TOKEN"},
    },
    "network": {"allow": ["10.1.0.0/16", "Hooks.Internal", "::1"]},
    "retry": {"first": "2s", "longest": "10m", "give_up": "1d"},
}  # fmt: skip


def give_secrets(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the secrets where the file says that they are."""
    (folder / "soc.key").write_text(f"{KEY}\n", encoding="utf-8")
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


def written(folder: Path, document: Any) -> Path:
    """Write a document as `alerts.yaml`: JSON is YAML, too."""
    path = folder / "alerts.yaml"
    path.write_text(document if isinstance(document, str) else json.dumps(document, indent=1), encoding="utf-8")
    return path
