"""Times and periods as people name them on the command line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from usageaudit.errors import ConfigurationError
from usageaudit.events.times import parse_time

if TYPE_CHECKING:
    from usageaudit.history import Period

_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
FromOption = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help="Only events from then on: a date, or an RFC 3339 time.")
]
UntilOption = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Only events before then.")]


def time_of(option: str, text: str) -> int:
    """Return the microseconds of a time, or of the beginning of a date in UTC. Raises ConfigurationError."""
    try:
        return parse_time(f"{text}T00:00:00Z" if _DATE.fullmatch(text) else text)
    except ValueError as error:
        raise ConfigurationError(f"{option} {text!r}: {error}, or a date such as 2024-05-01") from None


def period_of(since: str | None, until: str | None, options: tuple[str, str] = ("--since", "--until")) -> Period:
    """Return a period, without bounds where none are given. Raises ConfigurationError, also for one without length."""
    from usageaudit.history import Period

    whole = Period()
    start = whole.start if since is None else time_of(options[0], since)
    end = whole.end if until is None else time_of(options[1], until)
    if start >= end:
        raise ConfigurationError(f"{options[0]} has to lie before {options[1]}, or no event is of that time")
    return Period(start, end)
