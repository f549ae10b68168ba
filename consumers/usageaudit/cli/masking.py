"""Hides the secrets of a setting, for people and logs to see the rest."""

from __future__ import annotations

import re

_USER_PASSWORD = re.compile(r"(?P<before>://[^\s/?#:@]*:)(?P<secret>\S*)(?P<after>@)")
_SECRET_PARAMETER = re.compile(
    r"(?P<before>[?&;][^=&;\s]*(?:pass|secret|token|credential|key)[^=&;\s]*=)(?P<secret>[^&;\s]*)", re.IGNORECASE
)
MASK = "***"


def masked(value: object) -> str:
    """Return the text of a setting without the passwords of URLs and without parameters that are secrets."""
    text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    text = _SECRET_PARAMETER.sub(rf"\g<before>{MASK}", text)
    return _USER_PASSWORD.sub(rf"\g<before>{MASK}\g<after>", text)
