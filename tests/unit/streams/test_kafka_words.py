"""What is said of Kafka without asking any: causes of failed connections, and what a topic's settings mean."""

from __future__ import annotations

import logging
from dataclasses import replace
from itertools import permutations
from typing import TYPE_CHECKING

import pytest

from usageaudit.errors import ConfigurationError
from usageaudit.kafka_diagnosis import (
    REFUSALS,
    Causes,
    is_hopeless,
    likely_cause,
    listening,
    require_usable_files,
    unreachable,
)
from usageaudit.stream_url import KafkaStreamAddress
from usageaudit.streams.topic_checks import TopicState, check_topic

if TYPE_CHECKING:
    from pathlib import Path

ADDRESS = KafkaStreamAddress(
    ("broker:9093",), security="SASL_SSL", sasl_mechanism="SCRAM-SHA-512", username="audit", password="a-secret"
)
TELLING = "Bootstrap connection to bootstrap-0 failed: [Error 58] SaslAuthenticationFailedError: no (backoff 0.96 secs)"
VAGUE = "Bootstrap attempt to bootstrap-0 failed: KafkaConnectionError: socket disconnected (backoff 1.75 secs)"
UNKNOWN = "Bootstrap attempt to bootstrap-0 failed: KafkaProtocolError: something new (backoff 1.75 secs)"
NOW = 1_800_000_000_000
WELL = TopicState(
    topic="usage-events",
    replicas={0: 3, 1: 3},
    in_sync={0: 3, 1: 3},
    leaderless=frozenset(),
    settings={
        "min.insync.replicas": "2",
        "retention.ms": "1209600000",
        "retention.bytes": "-1",
        "cleanup.policy": "delete",
        "unclean.leader.election.enable": "false",
        "message.timestamp.type": "LogAppendTime",
        "max.message.bytes": "1048588",
    },
    newest=NOW - 1_000,
)


@pytest.mark.parametrize("lines", list(permutations([TELLING, VAGUE, UNKNOWN])))
def test_the_most_telling_line_counts(lines: tuple[str, ...]) -> None:
    """In whatever order the client logged what it met, the cause is that of the line that says most."""
    found = likely_cause(ADDRESS, lines)
    assert found is not None
    assert found[0] == TELLING
    said = unreachable(ADDRESS, lines, 12.0)
    assert "the broker refused the login: wrong username or password" in said
    assert "backoff" not in said
    assert "a-secret" not in said


def test_only_what_all_servers_refuse_again_and_again_is_hopeless() -> None:
    """Some refusals of each server, and nothing else, are the end; one failure of another kind may pass."""
    two = replace(ADDRESS, servers=("a:9093", "b:9093"))
    assert not is_hopeless(ADDRESS, [])
    assert not is_hopeless(ADDRESS, [TELLING] * (REFUSALS - 1))
    assert is_hopeless(ADDRESS, [TELLING] * REFUSALS)
    assert not is_hopeless(two, [TELLING] * REFUSALS)
    assert is_hopeless(two, [TELLING] * REFUSALS * 2)
    other = "Bootstrap connection to bootstrap-0 failed: KafkaConnectionError: 111 ECONNREFUSED (backoff 0.1 secs)"
    assert not is_hopeless(ADDRESS, [TELLING] * REFUSALS + [other])


def test_an_unknown_cause_is_quoted() -> None:
    """Where the cause is not known the message says what to look at, and what the client said last."""
    assert likely_cause(ADDRESS, [UNKNOWN]) is None
    said = unreachable(ADDRESS, [UNKNOWN], 12.0)
    assert "is it running" in said
    assert "something new" in said
    assert "is it running" in unreachable(ADDRESS, [], 12.0)


def test_only_failures_are_kept_and_for_as_long_as_they_matter(caplog: pytest.LogCaptureFixture) -> None:
    """Lines of kafka-python that tell of a failure are kept, others are not, and none afterwards."""
    logger = logging.getLogger("kafka.net.manager")
    with listening() as causes:
        logger.warning("Bootstrap %s not ready", "bootstrap-0")
        logger.warning(VAGUE)
    logger.warning(UNKNOWN)
    assert isinstance(causes, Causes)
    assert list(causes.lines) == [VAGUE]
    causes.forget()
    assert list(causes.lines) == []


def test_a_file_that_is_no_certificate_is_a_wrong_setting(tmp_path: Path) -> None:
    """A file without certificates is named by its option, before any connection is tried."""
    path = tmp_path / "ca.pem"
    path.write_text("nothing", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="ca_file can't be used"):
        require_usable_files(replace(ADDRESS, ca_file=path))
    with pytest.raises(ConfigurationError, match="cert_file and key_file can't be used"):
        require_usable_files(replace(ADDRESS, cert_file=path, key_file=path))
    require_usable_files(ADDRESS)


def test_a_topic_as_it_is_created_is_well() -> None:
    """With three replicas and the settings that `topic create` gives there is nothing to do."""
    assert [(one.name, one.status, one.todo) for one in check_topic(WELL, NOW) if one.status != "ok"] == []


def with_setting(name: str, value: str) -> TopicState:
    """Return the good topic with one setting changed."""
    return replace(WELL, settings={**WELL.settings, name: value})


WRONG = {
    "partitions": (replace(WELL, leaderless=frozenset({1})), "fail", "start their brokers"),
    "partitions ": (replace(WELL, in_sync={0: 3, 1: 2}), "warn", "a broker is down"),
    "replication": (replace(WELL, replicas={0: 1, 1: 3}, in_sync={0: 1, 1: 3}), "warn", "one lost disk"),
    "min.insync.replicas": (with_setting("min.insync.replicas", "1"), "warn", "one disk alone"),
    "min.insync.replicas ": (with_setting("min.insync.replicas", "3"), "warn", "while any broker is down"),
    "min.insync.replicas  ": (with_setting("min.insync.replicas", "4"), "fail", "nothing can be published"),
    "retention.ms": (with_setting("retention.ms", "604799999"), "warn", "loses events"),
    "retention.bytes": (with_setting("retention.bytes", "0"), "warn", "before retention.ms"),
    "cleanup.policy": (with_setting("cleanup.policy", "compact"), "warn", "replace one another"),
    "unclean.leader.election.enable": (with_setting("unclean.leader.election.enable", "true"), "warn", "are gone"),
    "message.timestamp.type": (with_setting("message.timestamp.type", "CreateTime"), "warn", "publishers' clocks"),
    "max.message.bytes": (with_setting("max.message.bytes", "1048587"), "warn", "refused"),
    "settings": (replace(WELL, settings={}), "warn", "DESCRIBE_CONFIGS"),
    "record times": (replace(WELL, newest=NOW + 5_001), "warn", "of the broker is ahead"),
}


@pytest.mark.parametrize(("name", "state", "status", "todo"), [(name.strip(), *one) for name, one in WRONG.items()])
def test_what_may_lose_events_is_said(name: str, state: TopicState, status: str, todo: str) -> None:
    """Each way in which a topic loses events, or takes none, is found under its name with what to do."""
    found = {one.name: one for one in check_topic(state, NOW)}
    assert found[name].status == status
    assert todo in found[name].todo


@pytest.mark.parametrize("kept", ["-1", "604800000"])
def test_a_week_is_long_enough(kept: str) -> None:
    """Keeping records for a week or for ever is well."""
    found = {one.name: one.status for one in check_topic(with_setting("retention.ms", kept), NOW)}
    assert found["retention.ms"] == "ok"
