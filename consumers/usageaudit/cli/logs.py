"""The logs of the services: lines of JSON on stderr, or text where that is a terminal."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import structlog


def configure_logging(least: str, form: str) -> None:
    """Send our log and those of libraries to stderr, from the level `least` on, as the settings of these names say."""
    as_json = form == "json" or (form == "auto" and not sys.stderr.isatty())
    level = logging.getLevelNamesMapping()[least.upper()]
    chain: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    last: Any = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=_colours())
    structlog.configure(
        processors=[*chain, last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=last, foreign_pre_chain=chain))
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)
    # It warns of each tenth of a second that this process was kept waiting, and of nothing that an operator can change.
    logging.getLogger("kafka.net.selector").setLevel(logging.ERROR)


def _colours() -> bool:
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR")
