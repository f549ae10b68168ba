"""The state of every delivery, as the store has it: each change is a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from usageaudit.alerts.dispatcher.decisions import columns
from usageaudit.errors import ConfigurationError
from usageaudit.ledger.alert_views import DELIVERY_CHANGES
from usageaudit.ledger.ddl import ALERT_DELIVERIES_LOG
from usageaudit.stores.native import NativeBlock
from usageaudit.stores.settling import settle

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from usageaudit.alerts.dispatcher.decisions import Journal
    from usageaudit.alerts.model import Occasion
    from usageaudit.stores.port import Store

State = Literal["waiting", "postponed", "retrying", "delivered", "dead"]
UNFINISHED: tuple[State, ...] = ("waiting", "postponed", "retrying")
SAID_CHARACTERS = 1024
_LAST = "(change, epoch)"
_PENDING = f"""SELECT delivery_id, any(alert_id), any(target), any(occasion), argMax(state, {_LAST}) AS last_state,
    argMax(attempts, {_LAST}), max(change), toUnixTimestamp64Milli(now64(3, 'UTC')) AS now,
    now - toUnixTimestamp64Milli(greatest(maxIf(at, state = 'waiting'), maxIf(next_try, state = 'postponed'))),
    greatest(toUnixTimestamp64Milli(argMax(next_try, {_LAST})) - now, 0)
FROM {DELIVERY_CHANGES} WHERE {{chosen}} GROUP BY delivery_id
HAVING last_state IN ({", ".join(f"'{state}'" for state in UNFINISHED)})
ORDER BY min(at), delivery_id LIMIT {{{{most:UInt32}}}}"""
_RESENT = """SELECT DISTINCT delivery_id FROM alert_deliveries_log
WHERE epoch = 0 AND state = 'waiting' AND at > now64(3, 'UTC') - toIntervalHour(2)"""
_RESEND = """INSERT INTO alert_deliveries_log (delivery_id, alert_id, target, occasion, change, state, attempts, status,
    response, next_try, epoch, at)
SELECT {delivery:String}, {alert:String}, {target:String}, {occasion:String}, {change:UInt32}, 'waiting', 0, 0, '',
    toDateTime64(0, 3, 'UTC'), 0, now64(3, 'UTC')"""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery that is not finished: `age` and `wait` are seconds, when it was read; `changes` is of the log."""

    delivery_id: str
    alert_id: str
    target: str
    occasion: Occasion
    state: State = "waiting"
    attempts: int = 0
    changes: int = 0
    age: float = 0.0
    wait: float = 0.0


@dataclass(frozen=True, slots=True)
class Change:
    """What a delivery came to; `next_ms` is since 1970, 0 where nothing more is tried."""

    delivery: Delivery
    state: State
    attempts: int
    status: int = 0
    said: str = ""
    next_ms: int = 0


def pending(store: Store, most: int, ids: Collection[str] | None = None) -> list[Delivery]:
    """Return unfinished deliveries, the oldest first, at most so many; of all, or of some ids."""
    chosen = "1" if ids is None else "delivery_id IN ({ids:Array(String)})"
    rows = store.execute(_PENDING.format(chosen=chosen), {"most": most, **({} if ids is None else {"ids": list(ids)})})
    return [
        Delivery(
            *(str(name), str(alert), str(target), occasion, state, int(attempts)),
            changes=int(change) + 1,
            age=max(int(age), 0) / 1000,
            wait=int(wait) / 1000,
        )
        for name, alert, target, occasion, state, attempts, change, _, age, wait in rows.rows
    ]


def resent(store: Store) -> set[str]:
    """Return the deliveries that a person sent again of late."""
    return {str(name) for (name,) in store.execute(_RESENT).rows}


def record(journal: Journal, changes: Sequence[Change], epoch: int, now_ms: int) -> None:
    """Append changes as one block. Raises Fenced, OutcomeUnknown and StoreUnavailable."""
    block = NativeBlock(columns(ALERT_DELIVERIES_LOG), ("epoch", "at"))
    block.add_rows([_row(one) for one in changes])
    journal.append(ALERT_DELIVERIES_LOG, block, epoch, {"epoch": epoch, "at": now_ms})


def resend(store: Store, delivery_id: str) -> None:
    """Have a delivery sent again, with the same id, by the dispatcher that runs or by the next.

    Raises ConfigurationError where there is no such delivery, or it is on its way.
    """
    rows = store.execute(
        "SELECT any(alert_id), any(target), any(occasion), max(change), "
        f"argMax(state, {_LAST}) FROM {DELIVERY_CHANGES} WHERE delivery_id = {{delivery:String}} GROUP BY delivery_id",
        {"delivery": delivery_id},
    ).rows
    if not rows:
        raise ConfigurationError(
            f"there is no delivery {delivery_id[:64]}: `usageaudit alerts list` shows what there is"
        )
    alert, target, occasion, change, state = rows[0]
    if state in UNFINISHED:
        raise ConfigurationError(f"delivery {delivery_id[:64]} is {state} and will be tried without being asked")
    values = {"delivery": delivery_id, "alert": alert, "target": target, "occasion": occasion}
    store.execute(_RESEND, {**values, "change": int(change) + 1})
    settle(store, "alert_deliveries_log")


def _row(one: Change) -> tuple[object, ...]:
    delivery = one.delivery
    return (
        *(delivery.delivery_id, delivery.alert_id, delivery.target, delivery.occasion, delivery.changes, one.state),
        *(one.attempts, one.status, one.said[:SAID_CHARACTERS], one.next_ms),
    )
