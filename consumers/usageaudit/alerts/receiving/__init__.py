"""A receiver of webhooks to try alerts out with: it verifies, drops repeats and says what arrived.

It keeps nothing. What people run in earnest is theirs; docs/webhooks.md says what it has to do.
"""

from __future__ import annotations

from usageaudit.alerts.receiving.receiver import Arrival, receiving

__all__ = ["Arrival", "receiving"]
