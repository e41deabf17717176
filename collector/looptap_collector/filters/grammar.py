"""The grammar. Imported when the first filter is read: training programs with an embedded store never need it."""

from __future__ import annotations

from lark import Lark

from looptap_collector.filters.fields import NAME, QUOTED

#: Terms of a comparison, to be counted.
RELATIONS = frozenset({"OPERATOR", "IN", "EXISTS", "IS"})

_GRAMMAR = rf"""
?start: any

?any: all (OR all)*
?all: negation (AND negation)*
?negation: NOT negation     -> negated
    | "(" any ")"
    | NAME OPERATOR value   -> compare
    | NAME IN list          -> one_of
    | NAME NOT IN list      -> none_of
    | NAME EXISTS           -> exists
    | NAME IS MISSING       -> missing

list: "(" value ("," value)* [","] ")"
?value: NUMBER | TEXT | NAME

AND.2: /and(?![\w.])/i
OR.2: /or(?![\w.])/i
NOT.2: /not(?![\w.])/i
IN.2: /in(?![\w.])/i
EXISTS.2: /exists(?![\w.])/i
IS.2: /is(?![\w.])/i
MISSING.2: /missing(?![\w.])/i
OPERATOR: "==" | "=" | "!=" | "<=" | ">=" | "<" | ">" | "~"
NUMBER: /[+-]?(?:(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?|(?<=[+-])(?:infinity|inf|nan))(?![\w.])/i
TEXT: /{QUOTED}/s
NAME: /{NAME.replace("/", chr(92) + "/")}/s

%ignore /\s+/
"""

PARSER = Lark(_GRAMMAR, parser="lalr", lexer="basic", maybe_placeholders=False)
