"""From the text of a filter to its tree, within limits that are checked before anything else."""

from __future__ import annotations

import math
import re
import time
from typing import TYPE_CHECKING, Any, cast

from looptap_collector.filters import literals, tree
from looptap_collector.filters.fields import KNOWN, kind_of, parse_field
from looptap_collector.filters.tree import Compare, Exists, Field, FilterError, Not, Operator, Tree, Value

if TYPE_CHECKING:
    from lark import Token
    from lark import Tree as Parsed

TEXT_BYTES = 8_192
TERMS = 64
NESTING = 32

_WORDS = {"true": True, "false": False, "nan": math.nan, "inf": math.inf, "infinity": math.inf}
_UNCLOSED = re.compile(r"[\"']")


def parse(text: str, now_ns: int | None = None) -> Tree:
    """The tree of a filter; relative times count from ``now_ns`` (default: now). Raises :class:`FilterError`, nothing else."""
    try:
        return _parsed(text, time.time_ns() if now_ns is None else now_ns)
    except FilterError as error:
        error.text = text
        raise


def _parsed(text: str, now_ns: int) -> Tree:
    _check_text(text)
    from lark import UnexpectedCharacters, UnexpectedToken

    from looptap_collector.filters.grammar import PARSER

    try:
        _check_size(list(PARSER.lex(text)))
        parsed = PARSER.parse(text)
    except UnexpectedCharacters as error:
        raise _unreadable(text, error.pos_in_stream or 0) from None
    except UnexpectedToken as error:
        at = len(text) if error.token.type == "$END" else error.token.start_pos or 0
        raise FilterError(_expected(error), at) from None
    return _Reader(now_ns).read(parsed)


def narrowed(text: str | None, **equal: str | None) -> str | None:
    """The filter, and these fields of the run equal to these texts (None: whatever they are); None when that leaves nothing
    to filter by. Raises :class:`FilterError` for the text alone, so that its positions are those of the text."""
    terms = [f"{name} = {literals.quoted(value)}" for name, value in equal.items() if value is not None]
    if not terms:
        return text
    if text is None:
        return " and ".join(terms)
    parse(text)
    return " and ".join([f"({text})", *terms])


def _check_text(text: str) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise FilterError("this character is not valid Unicode", error.start) from None
    if size > TEXT_BYTES:
        raise FilterError(f"a filter takes at most {TEXT_BYTES} bytes, this one {size}", len(text))
    if "\0" in text:
        raise FilterError("a filter cannot hold a NUL character", text.index("\0"))
    if not text.strip():
        raise FilterError("the filter is empty; it needs a comparison such as params.lr = 0.001", 0)


def _check_size(tokens: list[Token]) -> None:
    from looptap_collector.filters.grammar import RELATIONS

    terms = depth = negations = 0
    for token in tokens:
        terms += token.type in RELATIONS
        depth += (token.type == "LPAR") - (token.type == "RPAR")
        negations = negations + 1 if token.type == "NOT" else negations * (token.type == "LPAR")
        if terms > TERMS:
            raise FilterError(f"a filter has at most {TERMS} comparisons", token.start_pos or 0)
        if depth + negations > NESTING:
            raise FilterError(f"a filter is nested at most {NESTING} deep", token.start_pos or 0)


def _unreadable(text: str, at: int) -> FilterError:
    if _UNCLOSED.match(text, at):
        return FilterError("this text has no closing quote", at)
    found = text[at]
    if found == ".":
        return FilterError("after the dot comes a key, in quotes where it has odd characters", at)
    if found in "+-0123456789":
        return FilterError("this is not a number; text must stand in quotes", at)
    hint = {"!": "; write != or not", "&": "; write and", "|": "; write or", "%": "; ~ finds a part of a text"}
    return FilterError(f"{found!r} means nothing here{hint.get(found, '')}", at)


def _expected(error: Any) -> str:
    """In words, what could have stood where the parser stopped."""
    accepted = error.accepts or error.expected
    if "TEXT" in accepted:
        return "expected a number, a text in quotes, true or false"
    if "NAME" in accepted:
        return f"expected a comparison that begins with a field: {KNOWN}"
    if "OPERATOR" in accepted:
        return "expected one of = != < <= > >= ~ (contains), in, not in, exists, is missing"
    if "MISSING" in accepted:
        return "expected missing"
    if "COMMA" in accepted:
        return "expected , or )"
    if accepted == {"LPAR"}:
        return "expected a list in parentheses: (1, 2)"
    if accepted == {"IN"}:
        return "expected in"
    return "expected and, or, or " + (")" if "RPAR" in accepted else "the end")


class _Reader:
    """Turns what the parser has found into a tree, and checks that values fit their fields."""

    def __init__(self, now_ns: int) -> None:
        self._now_ns = now_ns

    def read(self, node: Parsed[Token]) -> Tree:
        kind, children = node.data, cast("list[Any]", node.children)
        if kind in ("any", "all"):
            items = tuple(self.read(child) for child in children[::2])
            return tree.Any(items) if kind == "any" else tree.All(items)
        if kind == "negated":
            return Not(self.read(children[1]))
        name = children[0]
        field = parse_field(str(name), name.start_pos)
        if kind == "exists":
            return Exists(field)
        if kind == "missing":
            return Not(Exists(field))
        if kind == "compare":
            return self._compare(field, children[1], [children[2]])
        return self._compare(field, "=" if kind == "one_of" else "!=", children[-1].children)

    def _compare(self, field: Field, operator: str, tokens: list[Token]) -> Compare:
        values = tuple(self._value(field, token) for token in tokens)
        first, last = values[0], tokens[-1].start_pos or 0
        if any(type(value) is not type(first) for value in values):
            raise FilterError("the values of a list must be of one kind: numbers, texts, or true and false", last)
        if operator == "~" and not (isinstance(first, str) and kind_of(field) in ("text", "any")):
            raise FilterError("~ finds a part of a text, so it needs a field of text and a text in quotes", last)
        ordered = operator not in ("=", "==", "!=", "~")
        if ordered and isinstance(first, str | bool):
            kind = "text" if isinstance(first, str) else "true and false"
            raise FilterError(f"{kind} cannot be compared with {operator}; use = or !=", last)
        if ordered and first != first:
            raise FilterError("nan is neither less nor greater than anything; use = or !=", last)
        return Compare(field, cast(Operator, "=" if operator == "==" else str(operator)), values)

    def _value(self, field: Field, token: Token) -> Value:
        at = token.start_pos or 0
        found = _literal(token, at)
        kind = kind_of(field)
        if kind == "time":
            if isinstance(found, str):
                return literals.time_ns(found, self._now_ns, at)
            raise FilterError(f'{field.key} is compared with a time in quotes: "2026-01-31" or "-7d"', at)
        if kind == "duration":
            if isinstance(found, str):
                return literals.duration_ns(found, at)
            if isinstance(found, bool) or not math.isfinite(found):
                raise FilterError(f'{field.key} is compared with seconds, or with a duration in quotes: "2h"', at)
            return literals.within_64_bits(round(found * 1e9))
        if kind == "text" and not isinstance(found, str):
            raise FilterError(f'{field.key} is text, so the value needs quotes: "{token}"', at)
        if kind == "number" and (isinstance(found, str | bool)):
            raise FilterError(f"a metric is compared with a number, not with {token[:40]}", at)
        return found


def _literal(token: Token, at: int) -> bool | float | str:
    if token.type == "TEXT":
        return literals.unquoted(str(token), at)
    if token.type == "NAME":
        if token.lower() in _WORDS:
            return _WORDS[token.lower()]
        raise FilterError(f'text must stand in quotes: "{token[:60]}"', at)
    number = float(token)
    if math.isinf(number) and "inf" not in token.lower():
        raise FilterError("this number is too large for a double", at)
    return number
