"""docs/webhooks.md is true: its lines work, its body is one, and it describes every field."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from tests.documents import ROOT, Reader, code_blocks
from tests.servers.certificates import lacking
from tests.servers.receivers import Receiver, answering
from usageaudit.alerts.config.reading import read_alerts
from usageaudit.alerts.config.settings import WebhookSettings
from usageaudit.alerts.model import Alert, Notification
from usageaudit.alerts.targets.opening import open_target
from usageaudit.alerts.targets.webhook_body import payload, webhook_schema
from usageaudit.verdicts import SEVERITIES

if TYPE_CHECKING:
    from pathlib import Path

PAGE = ROOT / "docs" / "webhooks.md"
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def block(language: str) -> str:
    """Return the one block of the page in a language."""
    (found,) = (one for one in code_blocks(PAGE) if one.language == language)
    return found.text


def notification(**changes: Any) -> Notification:
    """Return a notification of the alert that the page shows."""
    data = json.loads(block("json"))["data"]
    alert = Alert(**(data | {"evidence": json.dumps(data["evidence"])}))
    return Notification("d" * 32, "opened", replace(alert, **changes))


BODY, SHOWN = Draft202012Validator(webhook_schema()), notification()


def test_the_lines_lead_to_an_alert(tmp_path: Path) -> None:
    """Who types the lines of the page, and writes its alerts.yaml, gets an alert that the example has verified."""
    if (reason := lacking()) is not None:
        pytest.skip(reason)
    make, start = block("sh").splitlines()
    reader = Reader(tmp_path)
    reader.types(make)
    shutil.copy(ROOT / "docs/examples/webhook_receiver.py", tmp_path)
    program = ["/bin/sh", "-c", "exec " + start.replace("8008", "0").replace("WEBHOOK", "env WEBHOOK")]
    with subprocess.Popen(
        program, cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=reader._environment()
    ) as process:
        try:
            assert process.stdout is not None
            port = process.stdout.readline().split()[-1]
            (tmp_path / "alerts.yaml").write_text(block("yaml").replace("8008", port), encoding="utf-8")
            config = read_alerts(tmp_path / "alerts.yaml")
            assert open_target(config.targets["ops"], config.network).deliver(notification()).status == 204
            assert process.stdout.readline() == "io.usageaudit.alert.opened high 'Faces were recognised'\n"
        finally:
            process.terminate()


def test_the_lines_of_python_verify(tmp_path: Path) -> None:
    """The function of the page returns the alert of a delivery."""
    Reader(tmp_path).types(block("sh").splitlines()[0])
    with Receiver(answering("200 OK")) as receiver:
        text = block("yaml").replace("8008", str(receiver.port))
        (tmp_path / "alerts.yaml").write_text(text, encoding="utf-8")
        config = read_alerts(tmp_path / "alerts.yaml")
        settings = config.targets["ops"]
        assert isinstance(settings, WebhookSettings)
        open_target(settings, config.network).deliver(notification())
    names: dict[str, Any] = {}
    exec(block("python"), names)
    (request,) = receiver.requests
    alert = names["alert_of"](settings.secrets[0].reveal(), request.headers, request.body)
    assert alert == json.loads(block("json"))["data"]


def test_the_body_that_is_shown_is_what_is_sent() -> None:
    """The body of the page is what its alert becomes, and is one by the schema."""
    shown = json.loads(block("json"))
    assert payload(notification(), 0.0) == shown
    Draft202012Validator(webhook_schema()).validate(shown)


def test_every_field_is_described() -> None:
    """The tables of the page describe each field of a body, and no other."""
    tables = PAGE.read_text(encoding="utf-8").partition("| field | |")[2].partition("\n\n")[0]
    rows = [row.split("|")[1] for row in tables.splitlines() if row.startswith("| `")]
    described = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    schema = webhook_schema()
    fields = [*schema["$defs"]["WebhookAlert"]["properties"], "type", "timestamp"]
    assert sorted(described) == sorted(fields)


def test_the_published_schema_is_current() -> None:
    """The schema in schemas/published is what the definition of the body makes."""
    Draft202012Validator.check_schema(webhook_schema())
    text = (ROOT / "schemas" / "published" / "webhook.schema.json").read_text(encoding="utf-8")
    assert json.loads(text) == webhook_schema()


@given(
    message=TEXTS,
    severity=st.sampled_from(SEVERITIES),
    group=st.dictionaries(TEXTS, TEXTS, max_size=3),
    evidence=TEXTS | st.dictionaries(TEXTS, st.none() | st.integers() | TEXTS).map(json.dumps),
)
def test_every_body_is_one_by_the_schema(**changes: Any) -> None:
    """Whatever an alert says, its body is one by the schema."""
    BODY.validate(payload(replace(SHOWN, alert=replace(SHOWN.alert, **changes)), 0.0))
