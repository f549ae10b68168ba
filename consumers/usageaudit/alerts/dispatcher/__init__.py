"""Decides which violations and findings become alerts, and sees to it that every one of them reaches who is to know.

reading           what is new in the ledger and among the findings, and what was decided about it before
gathering         which alert a violation opens or belongs to
decisions         decisions, each kept in one block before anything of it is sent
findings          the same for findings, which may be cleared and found again
contents          what an alert says, read from the ledger when it is sent
deliveries        the state of every delivery, in the store
sending           a thread for each target, and what its answers come to: retries, circuit breaker, giving up
outbox            deliveries on their way: which is due, and what became of it
acknowledgements  who acknowledged an alert, and whom to tell where nobody has
service           step after step, until it is told to stop

Truth is the store: a decision is made once, under a lease, and deliveries follow from decisions. What was sent and not
recorded is sent again with the same id.
"""

from usageaudit.alerts.dispatcher.acknowledgements import acknowledge
from usageaudit.alerts.dispatcher.deliveries import resend
from usageaudit.alerts.dispatcher.service import Dispatcher, DispatcherState, run_dispatcher

__all__ = ["Dispatcher", "DispatcherState", "acknowledge", "resend", "run_dispatcher"]
