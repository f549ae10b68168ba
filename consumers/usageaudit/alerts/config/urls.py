"""What is wrong with a URL, and whether it holds a secret."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_TELLING = re.compile(r"(?i)(^|[._-])(access[_-]?)?(token|key|apikey|secret|sig|signature|password|pass|code|auth)$")
"""Names of parameters of URLs that hold secrets."""
_SECRET_PLACES = re.compile(r"(?i)(^|\.)(hooks\.slack\.com|webhook\.office\.com|logic\.azure\.com|discord\.com)$")
"""Hosts whose URLs are secrets themselves."""
_LONG = re.compile(r"[A-Za-z0-9_~+=-]{20,}")
_MIXED = re.compile(r"(?=[A-Za-z]*[0-9])(?=[0-9]*[A-Za-z])[A-Za-z0-9]{6,}")
"""Letters and digits together, as in nothing that somebody thought up."""


def problem_of_http(url: str) -> str:
    """Return what is wrong with the URL of a web server, without a word of it; an empty text where nothing is."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "is no URL"
    if parts.scheme not in ("http", "https") or not parts.hostname or not url.isascii() or port == 0:
        return "is no URL such as https://hooks.example.org/alerts"
    if any(letter.isspace() or not letter.isprintable() for letter in url):
        return "is a URL with white space in it"
    return "has a fragment (#…), which is never sent" if parts.fragment else ""


def tells_a_secret(url: str) -> bool:
    """Return whether the URL of a web server looks as if it held a secret. Whoever must be sure names it."""
    parts = urlsplit(url)
    names = [part.partition("=")[0] for part in parts.query.split("&")]
    return (
        "@" in parts.netloc
        or _SECRET_PLACES.search(parts.hostname or "") is not None
        or any(_TELLING.search(name) for name in names)
        or any(
            _LONG.fullmatch(part) and _MIXED.search(part) for part in re.split("[/?&=]", f"{parts.path}?{parts.query}")
        )
    )
