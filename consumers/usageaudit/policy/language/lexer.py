"""Splits a condition into tokens: CEL's lexical rules, without its unsigned integers and bytes."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from usageaudit.policy.language.diagnostics import at
from usageaudit.policy.language.source import Span
from usageaudit.policy.language.types import DOUBLE, INT, STRING, Type

if TYPE_CHECKING:
    from usageaudit.policy.language.diagnostics import Diagnostic
    from usageaudit.policy.language.source import Source


class Shape(Enum):
    """What kind of token it is."""

    NAME = "name"
    LITERAL = "literal"
    SYMBOL = "symbol"
    END = "end"


@dataclass(frozen=True, slots=True)
class Token:
    """A token; `text` is a name or a symbol, `value` and `type` are those of a literal."""

    shape: Shape
    text: str
    span: Span
    value: int | float | str = ""
    type: Type | None = None


_TOKEN = re.compile(
    r"""
    (?P<space> [ \t\r\n\f]+ | //[^\n]* )
  | (?P<string> (?:[rR][bB]?|[bB][rR]?)? (?:\"{3}|'{3}|"|') )
  | (?P<number> 0[xX][0-9a-fA-F]+ | (?: [0-9]+\.[0-9]+ | \.[0-9]+ | [0-9]+ ) (?:[eE][+-]?[0-9]+)? )
  | (?P<name> [A-Za-z_][A-Za-z0-9_]* )
  | (?P<symbol> && | \|\| | [=!<>]= | [-+*/%!<>?:.,()\[\]{}] )
    """,
    re.VERBOSE | re.ASCII,
)
_ESCAPE = re.compile(
    r"\\(?:(?P<plain>[abfnrtv\\?\"'`])|[xX](?P<x>[0-9a-fA-F]{2})|u(?P<u>[0-9a-fA-F]{4})|U(?P<U>[0-9a-fA-F]{8})"
    r"|(?P<octal>[0-3][0-7]{2}))"
)
_TAIL = re.compile(r"[A-Za-z0-9_]*")
_ENDS = {
    quote: re.compile(r"\\." + ("" if len(quote) == 3 else r"|\n") + "|" + quote, re.DOTALL)
    for quote in ("'", '"', "'''", '"""')
}
_PLAIN = dict(zip("abfnrtv", "\a\b\f\n\r\t\v", strict=True))
_STRAY = {
    "=": "to compare, write ==",
    "&": "the conjunction is &&",
    "|": "the disjunction is ||",
    ";": "a condition is one expression",
    "~": 'a regular expression is tested with text.matches("pattern")',
    "$": "a field is written as it is: actor.sector",
    **dict.fromkeys("\u201c\u201d\u201e\u2018\u2019\u201a", 'a string stands in straight quotes: "text"'),
    "`": 'quoted field names are no part of the language; an entry of a map is labels["key"]',
}


class Lexer:
    """Reads tokens one after another; what is wrong with a token goes to `problems`, and reading goes on behind it."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.problems: list[Diagnostic] = []
        self._text = source.text
        self._at = 0

    def tokens(self) -> list[Token]:
        """Return all tokens, the end included; time is linear in the length of the text."""
        found: list[Token] = []
        while self._at < len(self._text):
            match = _TOKEN.match(self._text, self._at)
            if match is None:
                self._stray()
                continue
            self._at = match.end()
            if match.lastgroup == "string":
                found.append(self._string(match))
            elif match.lastgroup == "number":
                found.append(self._number(match))
            elif match.lastgroup is not None and match.lastgroup != "space":
                found.append(Token(Shape(match.lastgroup), match.group(), self._span(match.start())))
        found.append(Token(Shape.END, "", Span(self.source, self._at, self._at)))
        return found

    def _span(self, start: int) -> Span:
        return Span(self.source, start, self._at)

    def _problem(self, span: Span, message: str, hint: str = "") -> None:
        self.problems.append(at(span, "error", message, hint))

    def _stray(self) -> None:
        start, character = self._at, self._text[self._at]
        self._at += 1
        if not self.problems or self.problems[-1].message != _unexpected(character):
            self._problem(self._span(start), _unexpected(character), _STRAY.get(character, ""))

    def _number(self, match: re.Match[str]) -> Token:
        text, start = match.group(), match.start()
        tail = _TAIL.match(self._text, self._at)
        rest = tail.group() if tail else ""
        self._at += len(rest)
        span = self._span(start)
        if rest in ("u", "U"):
            self._problem(span, "unsigned integers are no part of the language", f"write {text}")
        elif rest:
            self._problem(span, f"{_short(text + rest)} is no number")
        if text[:2] in ("0x", "0X"):
            return Token(Shape.LITERAL, text, span, int(text, 16), INT)
        if text.isdecimal():
            return Token(Shape.LITERAL, text, span, _decimal(text), INT)
        value = float(text)
        if math.isinf(value):
            self._problem(span, "number out of range", "a double goes up to about 1.8e308")
            value = 0.0
        return Token(Shape.LITERAL, text, span, value, DOUBLE)

    def _string(self, match: re.Match[str]) -> Token:
        prefix, start = match.group().rstrip("\"'").lower(), match.start()
        quote = match.group()[len(prefix) :]
        end = self._end_of_string(quote)
        body_at, body = self._at, self._text[self._at : end]
        self._at = min(len(self._text), end + len(quote))
        span = self._span(start)
        if not self._text.startswith(quote, end):
            self._problem(Span(self.source, start, start + len(match.group())), "string without an end", f"add {quote}")
        if "b" in prefix:
            self._problem(span, "bytes are no part of the language", "write a string, without the b")
        value = body if "r" in prefix else self._unescape(body, body_at)
        if not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
            self._problem(span, "a string holds whole characters, not surrogates")
            value = ""
        return Token(Shape.LITERAL, "", span, value, STRING)

    def _end_of_string(self, quote: str) -> int:
        r"""Return where the closing quote begins, or the end of the text (of the line, for a string of one line).

        A backslash protects what follows it from ending the string, in a raw string too: r"a\"b" is one string.
        """
        for match in _ENDS[quote].finditer(self._text, self._at):
            if match.group() == quote or match.group() == "\n":
                return match.start()
        return len(self._text)

    def _unescape(self, body: str, start: int) -> str:
        parts: list[str] = []
        at_ = 0
        while (backslash := body.find("\\", at_)) >= 0:
            parts.append(body[at_:backslash])
            match = _ESCAPE.match(body, backslash)
            character = _escaped(match) if match else ""
            at_ = match.end() if match else backslash + 2
            if not character:
                span = Span(self.source, start + backslash, min(start + at_, len(self._text)))
                self._problem(span, f"{_short(span.text)} is no escape", r'a backslash is written \\, or use r"..."')
            parts.append(character)
        parts.append(body[at_:])
        return "".join(parts)


def _escaped(match: re.Match[str]) -> str:
    """Return the character of an escape, or an empty string where there is no such character."""
    plain, kind = match.group("plain"), match.lastgroup
    if plain:
        return _PLAIN.get(plain, plain)
    digits = match.group(kind) if kind else "0"
    code = int(digits, 8 if kind == "octal" else 16)
    return "" if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF else chr(code)


def _decimal(digits: str) -> int:
    """Return the number, or one that is out of range where there are more digits than any number needs."""
    significant = digits.lstrip("0") or "0"
    return int(significant) if len(significant) <= 20 else 10**20


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"


def _unexpected(character: str) -> str:
    return f"unexpected character {character!r}"
