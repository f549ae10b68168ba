"""Somebody looks after an alert, and says so: by the signed link that a notification carries, or by the API.

links      what a link is, and whether one is ours
throttle   how often somebody may be wrong
page       what a person sees
serving    what is at each path, for whom
port       the dispatcher's HTTP port
"""

from __future__ import annotations

from usageaudit.alerts.acknowledging.links import AcknowledgeLink, LinkExpired, LinkRefused

__all__ = ["AcknowledgeLink", "LinkExpired", "LinkRefused"]
