"""Asking the process that holds an embedded store: a Unix socket beside the data, for reading only.

The embedded engine lets one process open its folder. `server` runs in that process, `client` is a store for all the
others, `protocol` is what they say to each other, `endpoint` where they meet.
"""

from usageaudit.cli.remote.client import RemoteStore, connect
from usageaudit.cli.remote.server import QueryServer

__all__ = ["QueryServer", "RemoteStore", "connect"]
