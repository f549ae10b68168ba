"""Policies asked of the record: what a change would have found, whom it affects, and findings where it is recorded.

    bundles ─▶ comparing (two verdicts of each policy, as SQL) ─▶ spans of the ledger ─▶ counts, examples ─▶ report

`backtest` and `affected` only read; `rejudge` appends findings. A verdict is always that of one row's own fields, by
the same conditions as on the stream: what an event did not say then is unknown, never clean.
"""

from usageaudit.history.affected import affected
from usageaudit.history.backtest import backtest
from usageaudit.history.counting import FIGURES, Tally
from usageaudit.history.rejudging import Outcome, rejudge
from usageaudit.history.report import Change, Example, PolicyChange
from usageaudit.history.spans import Period

__all__ = [
    "FIGURES",
    "Change",
    "Example",
    "Outcome",
    "Period",
    "PolicyChange",
    "Tally",
    "affected",
    "backtest",
    "rejudge",
]
