"""A new optional field: from its one definition to everything else, and what consumers that lack it make of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.evolution.versions import FIELD, LATER_TYPE, THIS, Place, Version
from tests.strategies import MINIMAL, envelope
from usageaudit.embedded_log import EmbeddedLog, NewRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

WITHOUT, WITH = "e-without", "e-with"
POLICY = """id: house/project
title: Every use belongs to a project
severity: low
revisions:
- version: 1
  from: 2024-01-01T00:00:00Z
  when: purpose.project == "forbidden"
"""


def _event(event_id: str, **purpose: str) -> dict[str, Any]:
    return envelope({**MINIMAL, "purpose": {"use_case": "chat", **purpose}}, id=event_id)


def _publish(place: Place, events: Sequence[dict[str, Any]]) -> None:
    """Append events as they are, as a publisher of any version would."""
    log = EmbeddedLog.open(place.folder / "data")
    log.append("usage-events", [NewRecord(None, json.dumps(one).encode()) for one in events])
    log.close()


def _consume(place: Place, version: Version) -> dict[str, int]:
    counts: dict[str, int] = json.loads(place.run(version, "consume", "--until-caught-up", "--format=ndjson"))
    return counts


def _unknown(place: Place, version: Version) -> list[str]:
    return [row["path"] for row in place.query(version, "unknown-fields")]


def test_everything_follows_from_the_definition(place: Place, later_version: Version) -> None:
    """With the checklist's edits the field is in JSON Schema, AsyncAPI, SQL's reference and the policy language."""
    for kind in ("json", "asyncapi", "sql"):
        assert "project that the use is for" in place.run(later_version, "schema", kind), kind
        assert "project that the use is for" not in place.run(THIS, "schema", kind), kind
    place.run(later_version, "policy", "init", "house")
    (policy,) = (place.folder / "house" / "policies").glob("*.yaml")
    policy.write_text(POLICY, encoding="utf-8")
    place.run(later_version, "policy", "check", "house")
    refused = place.try_(THIS, "policy", "check", "house")
    assert refused.returncode == 2
    assert f"unknown field {FIELD}" in refused.stderr


def test_a_field_that_a_consumer_does_not_know_rejects_nothing(place: Place, later_version: Version) -> None:
    """Until the upgrade the field is counted and kept in the bytes, after it in a column; the version before goes on.

    Of rows from before the upgrade it is read from their bytes. Old events stay valid.
    """
    _publish(place, [_event(WITHOUT), _event(WITH, project="apollo")])
    assert _consume(place, THIS) == {"consumed": 2, "accepted": 2, "duplicates": 0, "rejected": 0}
    project = "JSONExtractString(raw, 'data', 'purpose', 'project') AS project"
    sql = f"SELECT event_id, unknown_fields, {project} FROM usage_events ORDER BY event_id"
    recorded = [
        {"event_id": WITH, "unknown_fields": 1, "project": "apollo"},
        {"event_id": WITHOUT, "unknown_fields": 0, "project": ""},
    ]
    assert place.query(THIS, sql) == recorded
    assert _unknown(place, THIS) == [FIELD]

    place.run(later_version, "migrate")
    _publish(place, [_event("f-without"), _event("f-with", project="gemini")])
    assert _consume(place, later_version)["accepted"] == 2
    column = "SELECT event_id, purpose_project FROM usage_events ORDER BY event_id"
    assert place.query(later_version, column) == [
        {"event_id": WITH, "purpose_project": None},
        {"event_id": WITHOUT, "purpose_project": None},
        {"event_id": "f-with", "purpose_project": "gemini"},
        {"event_id": "f-without", "purpose_project": None},
    ]
    assert place.query(later_version, sql)[:2] == recorded
    assert _unknown(place, later_version) == []
    explained = json.loads(place.run(later_version, "policy", "explain", "--event", "//tests", WITH, "--format=ndjson"))
    assert explained["event_id"] == WITH

    _publish(place, [_event("g-with", project="mercury")])
    assert _consume(place, THIS)["accepted"] == 1
    assert _unknown(place, THIS) == [FIELD]
    place.run(THIS, "migrate", "--check")
    checks = {one["check"]: one for one in map(json.loads, place.run(THIS, "doctor", "--format=ndjson").splitlines())}
    assert checks["migrations"]["status"] == "ok"
    assert checks["migrations"]["found"].endswith("_project.sql")
    place.run(later_version, "verify")


def test_a_later_version_of_the_event_waits_for_the_upgrade(place: Place, later_version: Version) -> None:
    """An event of a version that is not known is rejected with its bytes and headers, and replayed once it is."""
    event, other = ({**_event(name), "type": LATER_TYPE} for name in ("structured", "binary"))
    attributes = ("specversion", "id", "source", "type", "time")
    headers = [(f"ce_{name}", str(other[name]).encode()) for name in attributes]
    log = EmbeddedLog.open(place.folder / "data")
    log.append("usage-events", [NewRecord(None, json.dumps(event).encode())])
    log.append("usage-events", [NewRecord(None, json.dumps(other["data"]).encode(), headers)])
    log.close()
    assert _consume(place, THIS)["rejected"] == 2
    for row in place.query(THIS, "SELECT error, error_path FROM rejects"):
        assert (row["error_path"], "io.usageaudit.model_usage.v1" in row["error"]) == ("type", True)
    assert json.loads(place.run(THIS, "rejects", "replay", "--format=ndjson", code=1))["still_rejected"] == 2
    replayed = json.loads(place.run(later_version, "rejects", "replay", "--format=ndjson"))
    assert replayed == {"published": 2, "still_rejected": 0}
    assert _consume(place, later_version)["accepted"] == 2
    modes = [{"event_id": name, "content_mode": name} for name in ("binary", "structured")]
    assert place.query(THIS, "SELECT event_id, content_mode FROM usage_events ORDER BY event_id") == modes
