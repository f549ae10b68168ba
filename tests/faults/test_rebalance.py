"""Members come and go, are killed and fall asleep past their time-out, all at once; and zombies wake up."""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.faults.campaign import CONTROL_TRIES, LONG, TRIES, Audit, Campaign, campaign, report, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.nursery import Process
    from tests.servers.clickhouse import ClickHouse
    from tests.servers.kafka import Kafka

pytestmark = pytest.mark.timeout(3600 if LONG else 600)
BATCH = ("--records", "50")
MEMBERS = 3
POINTS = ("before insert", "in the middle of an insert")
"""Where a zombie holds a batch that its successor records."""


class Storm:
    """A group whose members come and go."""

    def __init__(self, one: Campaign, stack: ExitStack) -> None:
        self._one, self._stack = one, stack
        self._members: list[Process] = []
        self._asleep: list[Process] = []

    def blow(self, moves: int) -> None:
        """Make so many moves: a member joins, leaves, is killed, falls asleep or wakes up."""
        for number in range(moves):
            getattr(self, ("_join", "_leave", "_kill", "_sleep", "_wake", "_join")[number % 6])()
            self._one.faults.append(time.monotonic())
            time.sleep(self._one.chance.uniform(0.1, 1.0))  # until the next move; any moment is right

    def calm(self) -> None:
        """Wake everybody, and let all leave."""
        while self._asleep:
            self._wake()
        for member in self._members:
            wait_until("a member that has started", lambda: _has_started(member), 240)  # noqa: B023
            assert member.end(120) == 0 or "Unavailable" in member.said(), member.said()

    def _join(self) -> None:
        member = self._one.consumer(*BATCH)
        self._stack.callback(member.kill)
        self._members.append(member)

    def _leave(self) -> None:
        if len(self._members) > 1:
            self._members.pop(0).send(signal.SIGTERM)

    def _kill(self) -> None:
        if len(self._members) > 1:
            self._members.pop(0).kill()

    def _sleep(self) -> None:
        if self._members:
            member = self._members.pop(0)
            member.send(signal.SIGSTOP)
            self._asleep.append(member)

    def _wake(self) -> None:
        if self._asleep:
            member = self._asleep.pop(0)
            member.send(signal.SIGCONT)
            self._members.append(member)


def _has_started(member: Process) -> bool:
    """Tell whether a member can be told to stop; one that found no server has ended by itself."""
    return "ready" in member.said() or member.exit_code is not None


def test_a_storm_of_rebalances(quick_kafka: Kafka, clickhouse: ClickHouse, tmp_path: Path) -> None:
    """While members join, leave, die, sleep and wake, each acknowledged event is recorded exactly once."""
    with campaign(tmp_path, quick_kafka, clickhouse, partitions=6) as one, ExitStack() as stack:
        one.options = "&session_timeout_ms=1500"
        with one.traffic("--broken", "37", "--copies", "2"):
            storm = Storm(one, stack)
            storm.blow(60 if LONG else 6)
            storm.calm()
        one.finish()
        audit = one.audit()
        report(one, audit, "consumer", "members join, leave, die, sleep, wake", "at random")
    assert audit.exact, audit.found


def _zombies(folder: Path, kafka: Kafka, clickhouse: ClickHouse, point: str, tries: int, without: str = "") -> Audit:
    """Let consumers fall asleep with a batch in hand until others have recorded it, and wake them."""
    options = ("--without", without) if without else ()
    with campaign(folder, kafka, clickhouse) as one, ExitStack() as stack:
        one.options = "&session_timeout_ms=1500"
        with one.traffic():
            for _ in range(tries):
                zombie = one.consumer(*BATCH, *options, "--at", point, "--nth", "2", "--do", "sleep")
                stack.callback(zombie.kill)
                wait_until("the zombie asleep", lambda: zombie.asleep, 120)  # noqa: B023  used in this round
                successor = one.consumer(*BATCH, *options)
                stack.callback(successor.kill)
                wait_until("its successor", lambda: successor.said().count("recorded: ") > 3, 120)  # noqa: B023
                one.faults.append(time.monotonic())
                zombie.send(signal.SIGCONT)
                assert zombie.end(120) == 0, zombie.said()
                assert successor.end(120) == 0, successor.said()
        one.finish(*options)
        audit = one.audit()
        control = f"without the {without}" if without else ""
        report(one, audit, "consumer", "asleep past its time-out, wakes up", point, control=control)
    return audit


@pytest.mark.parametrize("point", POINTS)
def test_zombies_change_nothing(point: str, quick_kafka: Kafka, clickhouse: ClickHouse, tmp_path: Path) -> None:
    """Consumers that wake up when others have recorded their batch write nothing, and nothing is lost."""
    audit = _zombies(tmp_path, quick_kafka, clickhouse, point, TRIES)
    assert audit.exact, audit.found


@pytest.mark.parametrize("point", POINTS if LONG else POINTS[:1])
def test_control_zombies_without_the_fence(
    point: str, quick_kafka: Kafka, clickhouse: ClickHouse, tmp_path: Path
) -> None:
    """Negative control: without the fence the batch of who wakes up lands a second time."""
    assert _zombies(tmp_path, quick_kafka, clickhouse, point, CONTROL_TRIES, "fence").doubled > 0
