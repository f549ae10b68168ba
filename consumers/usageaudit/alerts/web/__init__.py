"""How deliveries reach receivers by HTTP: only where they may, within a time, and without believing the answer.

`Web(network, seconds).post(...)` sends one request and returns the answer of who took it, or raises DeliveryFailed.
"""

from usageaudit.alerts.web.client import CONNECT_SECONDS, MAX_ANSWER, Web
from usageaudit.alerts.web.resolving import Resolve, system_addresses

__all__ = ["CONNECT_SECONDS", "MAX_ANSWER", "Resolve", "Web", "system_addresses"]
