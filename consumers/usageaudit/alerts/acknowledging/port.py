"""The dispatcher's HTTP port, for as long as a block runs."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

from usageaudit.alerts.acknowledging.links import AcknowledgeLink, checked_secret
from usageaudit.alerts.acknowledging.serving import Serving
from usageaudit.errors import ConfigurationError
from usageaudit.operating.address import parse_address
from usageaudit.operating.port import HttpPort

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usageaudit.alerts.acknowledging.serving import Acknowledge
    from usageaudit.alerts.config.settings import Acknowledging
    from usageaudit.stores.port import Store

log = structlog.get_logger("usageaudit.alerts")


def link_of(config: Acknowledging) -> AcknowledgeLink:
    """Return what makes and reads the links of a configuration."""
    return AcknowledgeLink(config.url, config.secret, config.former)


@contextmanager
def acknowledging(config: Acknowledging, store: Store, acknowledge: Acknowledge) -> Iterator[HttpPort]:
    """Take acknowledgements while the block runs, with another store like this one.

    Raises ConfigurationError where it can't be listened there, or a secret is not there or too short.
    """
    for secret in (config.secret, *config.former, *((config.token,) if config.token else ())):
        checked_secret(secret)
    where = parse_address(config.listen)
    if where is None:
        raise ConfigurationError("acknowledging: listen names no address; leave `acknowledging` out for none")
    own = store.another()
    serving = Serving(own, link_of(config), config.token, acknowledge)
    port = HttpPort(*where, lambda *_: None, takes=serving)
    try:
        port.open()
        log.info("taking acknowledgements", host=port.host, port=port.port)
        yield port
    finally:
        port.close()
        own.close()
