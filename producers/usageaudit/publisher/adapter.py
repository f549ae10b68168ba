"""Which adapter of the port a stream takes."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from usageaudit.stream_url import KafkaStreamAddress

if TYPE_CHECKING:
    from collections.abc import Callable

    from usageaudit.publisher.complaints import Complaints
    from usageaudit.publisher.port import Outlet
    from usageaudit.stream_url import StreamAddress


def adapter(address: StreamAddress) -> Callable[[Complaints], Outlet]:
    """Return what makes the writing side of the stream, importing no client but its own.

    Not in the publisher's thread, where a fork could leave a half-imported module to the child.
    """
    if isinstance(address, KafkaStreamAddress):
        from usageaudit.publisher.kafka import KafkaOutlet

        return functools.partial(KafkaOutlet, address)
    from usageaudit.publisher.embedded import EmbeddedOutlet

    return functools.partial(EmbeddedOutlet, address)
