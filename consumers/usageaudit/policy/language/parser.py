"""Reads a condition into a syntax tree: CEL's grammar, less what the language leaves out."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from usageaudit.policy.language.diagnostics import MAX_PROBLEMS, InvalidCondition, at
from usageaudit.policy.language.lexer import Lexer, Shape, Token
from usageaudit.policy.language.source import Origin, Source, Span
from usageaudit.policy.language.syntax import (
    Call,
    Expr,
    Has,
    Ident,
    Index,
    ListLiteral,
    Literal,
    Macro,
    Select,
    Syntax,
)
from usageaudit.policy.language.types import BOOL, DOUBLE, INT, INT_MAX, STRING

if TYPE_CHECKING:
    from usageaudit.policy.language.diagnostics import Diagnostic

MAX_LENGTH = 65_536
"""The longest condition, in characters."""
MAX_DEPTH = 64
"""How deep a condition may be nested: brackets, and operators on operators' results."""
MACROS = ("exists", "all", "exists_one")

_LEVELS: tuple[frozenset[str], ...] = (
    frozenset({"||"}),
    frozenset({"&&"}),
    frozenset({"==", "!=", "<", "<=", ">", ">=", "in"}),
    frozenset({"+", "-"}),
    frozenset({"*", "/", "%"}),
)
_LEVEL = {symbol: level for level, symbols in enumerate(_LEVELS) for symbol in symbols}
_RESERVED = frozenset(
    {"as", "break", "const", "continue", "else", "for", "function", "if", "import"}
    | {"let", "loop", "package", "namespace", "return", "var", "void", "while"}
)
_FOREIGN = {
    "and": "the conjunction is &&",
    "AND": "the conjunction is &&",
    "or": "the disjunction is ||",
    "OR": "the disjunction is ||",
    "not": "the negation is !(..)",
    "NOT": "the negation is !(..)",
    "is": "to compare, write ==",
    "equals": "to compare, write ==",
    "like": "of texts there are contains, startsWith, endsWith and matches",
    "if": "write condition ? value : other value",
    ",": "several values stand in brackets, [a, b], and digits side by side: 100000",
}
"""What to write instead of words, and of commas, that other languages have."""
_WORDS = frozenset({"in", "true", "false", "null"})


def parse(text: str, *, origin: Origin) -> Expr:
    """Return the syntax tree of a condition.

    Raises InvalidCondition with every fault found: a token that is none, and the first place where the grammar is
    broken. Time is linear in the length of the text.
    """
    source = Source(text, origin.of(text))
    if len(text) > MAX_LENGTH:
        span = Span(source, 0, 1)
        hint = "put long lists into lists.yaml and parts into `let`"
        raise InvalidCondition([at(span, "error", f"a condition has at most {MAX_LENGTH} characters", hint)])
    lexer = Lexer(source)
    tokens = lexer.tokens()
    parser = _Parser(tokens)
    try:
        tree: Syntax | None = parser.whole()
    except InvalidCondition as fault:
        tree = None
        parser.problems.extend(fault.diagnostics)
    if tree is None or lexer.problems or parser.problems:
        # Behind a token that is none, what breaks the grammar is seldom another fault.
        found = lexer.problems or parser.problems
        raise InvalidCondition(sorted(found, key=lambda d: (d.line, d.column))[:MAX_PROBLEMS])
    return Expr(tree, source)


class _Parser:
    """Recursive descent over the tokens, by precedence; brackets and depth are bounded by MAX_DEPTH."""

    def __init__(self, tokens: list[Token]) -> None:
        self.problems: list[Diagnostic] = []
        self._tokens = tokens
        self._next = 0
        self._open = 0

    def whole(self) -> Syntax:
        tree = self._expression()
        if self._token.shape is not Shape.END:
            before = self._tokens[self._next - 1].text if self._next else ""
            hint = (
                _FOREIGN.get(before) or _FOREIGN.get(self._token.text) or "an operator such as && is missing before it"
            )
            self._fail(self._token, f"unexpected {_called(self._token)}", hint)
        return tree

    # -- tokens

    @property
    def _token(self) -> Token:
        return self._tokens[self._next]

    def _take(self) -> Token:
        token = self._token
        self._next += token.shape is not Shape.END
        return token

    def _is(self, symbol: str) -> bool:
        token = self._token
        return token.text == symbol and token.shape in (Shape.SYMBOL, Shape.NAME)

    def _expect(self, symbol: str) -> Token:
        if not self._is(symbol):
            hint = "put a comma between them" if symbol == "]" and self._token.shape is Shape.LITERAL else ""
            hint = hint or _FOREIGN.get(self._token.text, "")
            self._fail(self._token, f"expected {symbol} before {_called(self._token)}", hint)
        return self._take()

    def _fail(self, token: Token, message: str, hint: str = "") -> NoReturn:
        raise InvalidCondition([at(token.span, "error", message, hint)])

    def _enter(self, token: Token) -> None:
        self._open += 1
        if self._open > MAX_DEPTH:
            self._too_deep(token.span)

    def _too_deep(self, span: Span) -> NoReturn:
        hint = "name parts of it in `let`"
        raise InvalidCondition([at(span, "error", f"nested more than {MAX_DEPTH} levels deep", hint)])

    def _deeper(self, span: Span, *below: Syntax) -> int:
        """Return the depth of a node over others, and refuse it where that is too deep."""
        depth = 1 + max((node.depth for node in below), default=0)
        if depth > MAX_DEPTH:
            self._too_deep(span)
        return depth

    # -- grammar, from the weakest binding to the strongest

    def _expression(self) -> Syntax:
        start = self._token
        condition = self._binary(0)
        if not self._is("?"):
            return condition
        self._enter(self._take())
        then = self._binary(0)
        self._expect(":")
        otherwise = self._expression()
        self._open -= 1
        return self._call(start, "?:", condition, then, otherwise)

    def _binary(self, level: int) -> Syntax:
        """Parse operands joined by the operators of a level or of stronger ones, each binding to its left."""
        start = self._token
        left = self._unary()
        while (found := _LEVEL.get(self._token.text, -1)) >= level and self._is(self._token.text):
            symbol = self._take().text
            right = self._binary(found + 1)
            if found >= 2:
                left = self._call(start, symbol, left, right)
                continue
            operands = [left, right]
            while self._is(symbol):
                self._take()
                operands.append(self._binary(found + 1))
            left = self._call(start, symbol, *operands)
        return left

    def _since(self, start: Token) -> Span:
        """Return the span from a token to the last one taken, brackets around operands included."""
        return start.span.to(self._tokens[self._next - 1].span)

    def _call(self, start: Token, name: str, *arguments: Syntax) -> Call:
        span = self._since(start)
        return Call(name, arguments, span=span, depth=self._deeper(span, *arguments))

    def _unary(self) -> Syntax:
        signs: list[Token] = []
        while self._is("!") or self._is("-"):
            signs.append(self._take())
        operand = self._number_below_zero(signs) or self._postfix()
        for sign in reversed(signs):
            span = self._since(sign)
            operand = Call(sign.text, (operand,), span=span, depth=self._deeper(span, operand))
        return operand

    def _number_below_zero(self, signs: list[Token]) -> Syntax | None:
        """Take the last minus and a number as one literal, so that the smallest integer can be written."""
        token = self._token
        if not signs or signs[-1].text != "-" or token.type not in (INT, DOUBLE):
            return None
        sign = signs.pop()
        self._take()
        value = token.value
        if isinstance(value, str):
            return None
        self._check_range(token, -value)
        return self._postfixes(sign, Literal(-value, token.type, span=self._since(sign)))

    def _check_range(self, token: Token, value: float) -> None:
        if token.type is INT and not -INT_MAX - 1 <= value <= INT_MAX:
            hint = "an integer has 64 bits, up to 9223372036854775807"
            self.problems.append(at(token.span, "error", "number out of range", hint))

    def _postfix(self) -> Syntax:
        return self._postfixes(self._token, self._primary())

    def _postfixes(self, start: Token, operand: Syntax) -> Syntax:
        """Parse what follows a value: its fields, methods and entries."""
        while True:
            if self._is("."):
                self._take()
                operand = self._after_dot(start, operand)
            elif self._is("["):
                operand = self._index(start, operand)
            elif self._is("{") and isinstance(operand, Ident | Select):
                self._fail(self._token, "objects can't be made in a condition", "compare the fields one by one")
            else:
                return operand

    def _index(self, start: Token, operand: Syntax) -> Syntax:
        self._enter(self._take())
        key = self._expression()
        self._expect("]")
        self._open -= 1
        span = self._since(start)
        return Index(operand, key, span=span, depth=self._deeper(span, operand, key))

    def _after_dot(self, start: Token, operand: Syntax) -> Syntax:
        name = self._take()
        if name.shape is not Shape.NAME or name.text in _WORDS:
            self._fail(name, f"expected a field's name before {_called(name)}")
        if self._is("("):
            arguments = self._arguments()
            return self._method(operand, name, arguments, self._since(start))
        span = self._since(start)
        return Select(operand, name.text, span=span, depth=self._deeper(span, operand))

    def _method(self, operand: Syntax, name: Token, arguments: tuple[Syntax, ...], span: Span) -> Syntax:
        depth = self._deeper(span, operand, *arguments)
        if name.text in ("map", "filter"):
            hint = "exists, all and exists_one test the elements of a list"
            self._fail(name, f"{name.text} is no part of the language", hint)
        if name.text not in MACROS:
            return Call(name.text, (operand, *arguments), method=True, span=span, depth=depth)
        if len(arguments) != 2 or not isinstance(arguments[0], Ident):
            hint = f"{name.text}(x, x == 'a')"
            self._fail(name, f"{name.text} takes a name for the element and a condition on it", hint)
        return Macro(name.text, operand, arguments[0].name, arguments[1], span=span, depth=depth)

    def _arguments(self) -> tuple[Syntax, ...]:
        self._enter(self._expect("("))
        items = self._items(")")
        self._open -= 1
        self._expect(")")
        return items

    def _items(self, closing: str) -> tuple[Syntax, ...]:
        """Parse expressions separated by commas; only a list may end in one."""
        items: list[Syntax] = []
        while not self._is(closing):
            items.append(self._expression())
            if not self._is(","):
                break
            comma = self._take()
            if self._is(closing) and closing == ")":
                self._fail(comma, "expected an argument after the comma")
        return tuple(items)

    def _primary(self) -> Syntax:
        token = self._take()
        if token.shape is Shape.LITERAL:
            return self._literal(token)
        if token.shape is Shape.NAME:
            return self._name(token)
        if token.text == "(":
            return self._parenthesised(token)
        if token.text == "[":
            return self._list(token)
        hint = ""
        if token.text == "{":
            hint = "maps can't be written in a condition; put named values into lists.yaml"
        elif token.text == ".":
            hint = "a name has no dot before it: actor.sector"
        return self._fail(token, f"expected a value before {_called(token)}", hint)

    def _literal(self, token: Token) -> Syntax:
        value = token.value
        if not isinstance(value, str):
            self._check_range(token, value)
        return Literal(value, token.type, span=token.span)

    def _parenthesised(self, token: Token) -> Syntax:
        self._enter(token)
        inner = self._expression()
        self._expect(")")
        self._open -= 1
        return inner

    def _list(self, token: Token) -> Syntax:
        self._enter(token)
        items = self._items("]")
        self._open -= 1
        self._expect("]")
        span = self._since(token)
        return ListLiteral(items, span=span, depth=self._deeper(span, *items))

    def _name(self, token: Token) -> Syntax:
        if token.text in ("true", "false"):
            return Literal(token.text == "true", BOOL, span=token.span)
        if token.text == "null":
            return Literal(None, None, span=token.span)
        if token.text in _RESERVED or token.text == "in":
            self._fail(token, f"{token.text} is a reserved word", _FOREIGN.get(token.text, ""))
        if not self._is("("):
            return Ident(token.text, span=token.span)
        arguments = self._arguments()
        span = self._since(token)
        depth = self._deeper(span, *arguments)
        if token.text != "has":
            return Call(token.text, arguments, span=span, depth=depth)
        if len(arguments) != 1 or not isinstance(arguments[0], Select | Index | Ident):
            self._fail(token, "has takes one field", "such as has(actor.sector)")
        return Has(arguments[0], span=span, depth=depth)


def _called(token: Token) -> str:
    """Return what to call a token in a message."""
    if token.shape is Shape.END:
        return "the end"
    if token.shape is Shape.LITERAL:
        return "a string" if token.type is STRING else "a number"
    return token.text if len(token.text) <= 40 else token.text[:39] + "…"
