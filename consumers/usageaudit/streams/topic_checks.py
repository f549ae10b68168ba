"""Whether a topic of Kafka keeps what it is given: what its settings mean for an audit log, as findings.

Source of the settings: https://kafka.apache.org/documentation/#topicconfigs
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

WEEK_MS = 7 * 24 * 3600 * 1000
LARGEST_RECORD = 1_048_588
"""Kafka's own default: a record batch of a mebibyte, which the publisher keeps to, and its overhead."""
DAY_MS = 24 * 3600 * 1000
MOST_AHEAD_MS = 5_000
MOST_NAMED = 10


@dataclass(frozen=True, slots=True)
class TopicCheck:
    """One thing about a topic: whether it is well, what was found, and what to do where it is not."""

    name: str
    status: Literal["ok", "warn", "fail"]
    found: str
    todo: str = ""


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as its brokers describe it: numbers of partitions, and for each its replicas, those in sync, and leader.

    `settings` are the values in force by name, none where the login may not see them. `newest` is the latest time of
    any record, in milliseconds since 1970, None where there is none.
    """

    topic: str
    replicas: Mapping[int, int]
    in_sync: Mapping[int, int]
    leaderless: frozenset[int]
    settings: Mapping[str, str] = field(default_factory=dict)
    newest: int | None = None

    @property
    def replication(self) -> int:
        """The fewest replicas that any partition has."""
        return min(self.replicas.values(), default=0)


def check_topic(state: TopicState, now_ms: int) -> Iterator[TopicCheck]:
    """Yield what there is to say about a topic; `now_ms` is this machine's time."""
    yield _partitions(state)
    yield _replication(state)
    if not state.settings:
        todo = f"allow this login DESCRIBE_CONFIGS on topic {state.topic}, or run `usageaudit topic check` with another"
        yield TopicCheck("settings", "warn", "this login may not see the topic's settings", todo)
    else:
        yield from _settings(state)
    yield _clock(state, now_ms)


def _settings(state: TopicState) -> Iterator[TopicCheck]:
    yield _in_sync(state)
    yield _retention(state)
    yield _bounded(state)
    yield _cleanup(state)
    yield _election(state)
    yield _times(state)
    yield _size(state)


def _partitions(state: TopicState) -> TopicCheck:
    count = f"{len(state.replicas)} partitions"
    if state.leaderless:
        todo = "start their brokers: nothing can be published to these, or read from them"
        return TopicCheck("partitions", "fail", f"{count}, without a leader: {_numbers(state.leaderless)}", todo)
    if behind := {number for number, many in state.in_sync.items() if many < state.replicas[number]}:
        todo = "a broker is down or slow: with fewer replicas in sync than min.insync.replicas nothing can be published"
        return TopicCheck("partitions", "warn", f"{count}, replicas missing of: {_numbers(behind)}", todo)
    return TopicCheck("partitions", "ok", count)


def _replication(state: TopicState) -> TopicCheck:
    found = f"{state.replication} of each partition"
    if state.replication > 1:
        return TopicCheck("replication", "ok", found)
    todo = "one lost disk loses events: create the topic with --replication 3, or reassign its partitions"
    return TopicCheck("replication", "warn", found, todo)


def _in_sync(state: TopicState) -> TopicCheck:
    name = "min.insync.replicas"
    least = _number(state, name, 1)
    if least > state.replication:
        todo = f"nothing can be published with {state.replication} replicas: set {name} below that"
        return TopicCheck(name, "fail", str(least), todo)
    if least < 2:
        todo = f"an acknowledged event may be on one disk alone: 3 replicas and {name}=2"
        return TopicCheck(name, "warn", str(least), todo)
    if least == state.replication:
        todo = "publishing stops while any broker is down: use one replica more"
        return TopicCheck(name, "warn", f"{least}, as many as there are replicas", todo)
    return TopicCheck(name, "ok", str(least))


def _retention(state: TopicState) -> TopicCheck:
    kept = _number(state, "retention.ms", WEEK_MS)
    if 0 <= kept < WEEK_MS:
        todo = f"a consumer that stops for longer loses events: retention.ms={WEEK_MS} or more"
        return TopicCheck("retention.ms", "warn", f"{kept / DAY_MS:.3g} days", todo)
    return TopicCheck("retention.ms", "ok", "for ever" if kept < 0 else f"{kept / DAY_MS:.3g} days")


def _bounded(state: TopicState) -> TopicCheck:
    most = _number(state, "retention.bytes", -1)
    if most >= 0:
        todo = "much traffic deletes events before retention.ms: retention.bytes=-1, and watch the brokers' disks"
        return TopicCheck("retention.bytes", "warn", f"{most:,} bytes of each partition", todo)
    return TopicCheck("retention.bytes", "ok", "not bounded")


def _cleanup(state: TopicState) -> TopicCheck:
    policy = state.settings.get("cleanup.policy", "delete")
    if "compact" in policy:
        todo = "events with the same key replace one another: cleanup.policy=delete"
        return TopicCheck("cleanup.policy", "warn", policy, todo)
    return TopicCheck("cleanup.policy", "ok", policy)


def _election(state: TopicState) -> TopicCheck:
    name = "unclean.leader.election.enable"
    value = state.settings.get(name, "false")
    if value == "true":
        todo = f"a replica that lags may become the leader, and acknowledged events are gone: {name}=false"
        return TopicCheck(name, "warn", value, todo)
    return TopicCheck(name, "ok", value)


def _times(state: TopicState) -> TopicCheck:
    name = "message.timestamp.type"
    value = state.settings.get(name, "CreateTime")
    if value == "LogAppendTime":
        return TopicCheck(name, "ok", value)
    oldest = _number(state, "message.timestamp.before.max.ms", 2**63 - 1)
    if oldest < WEEK_MS:
        todo = f"events that waited in a publisher's spool are refused: {name}=LogAppendTime"
        return TopicCheck(name, "warn", f"{value}, at most {oldest / DAY_MS:.3g} days old", todo)
    todo = f"retention goes by publishers' clocks, and deletes what waited long in a spool: {name}=LogAppendTime"
    return TopicCheck(name, "warn", value, todo)


def _size(state: TopicState) -> TopicCheck:
    name = "max.message.bytes"
    most = _number(state, name, LARGEST_RECORD)
    if most < LARGEST_RECORD:
        todo = f"larger events are refused, and count as lost at their publisher: {name}={LARGEST_RECORD}"
        return TopicCheck(name, "warn", f"{most:,}", todo)
    return TopicCheck(name, "ok", f"{most:,}")


def _clock(state: TopicState, now_ms: int) -> TopicCheck:
    """Compare the newest record's time with this machine's: brokers do not tell their own.

    It shows clocks that are ahead of this one; those that lag can't be told from silence.
    """
    if state.newest is None:
        return TopicCheck("record times", "ok", "no record yet")
    ahead = (state.newest - now_ms) / 1000
    if ahead * 1000 > MOST_AHEAD_MS:
        whose = "the broker" if state.settings.get("message.timestamp.type") == "LogAppendTime" else "some publisher"
        todo = f"set the clocks (chrony or systemd-timesyncd): that of {whose} is ahead of this machine's"
        return TopicCheck("record times", "warn", f"the newest is {ahead:,.1f} s in the future", todo)
    return TopicCheck("record times", "ok", f"the newest is {-ahead:,.1f} s old")


def _number(state: TopicState, name: str, default: int) -> int:
    return int(state.settings.get(name, default))


def _numbers(partitions: frozenset[int] | set[int]) -> str:
    named = sorted(partitions)[:MOST_NAMED]
    more = f" and {len(partitions) - len(named)} more" if len(partitions) > len(named) else ""
    return ", ".join(map(str, named)) + more
