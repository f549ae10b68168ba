"""Text from outside, made safe for a terminal."""

from __future__ import annotations

import unicodedata

_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_UNSAFE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
_JOINERS = "\u200c\u200d"
"""Zero-width joiners are format characters too, but words and emoji are written with them."""


def printable(text: str, keep: str = "") -> str:
    """Return the text with control, format and unassigned characters written as escapes, those of `keep` aside.

    An escape sequence in data would otherwise reach the terminal and could rewrite what is on it; characters that
    reverse the direction of writing could make a line read as another.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(one if one in keep or _is_safe(one) else _escaped(one) for one in text)


def _is_safe(one: str) -> bool:
    return one in _JOINERS or unicodedata.category(one) not in _UNSAFE


def _escaped(one: str) -> str:
    code = ord(one)
    if one in _ESCAPES:
        return _ESCAPES[one]
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
