"""The three things about text in which SQL engines differ, each in the one way that is exact: no patterns, no case folding,
no padding, no locale."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Text, case, func, literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement
from sqlalchemy.types import Boolean

from looptap_collector.backends.types import exact_collation
from looptap_collector.filters.evaluation import ESCAPED_NUL


class exact_text(FunctionElement[str]):
    """A text that is compared and ordered by its code points, as Python does."""

    type = Text()
    inherit_cache = True
    name = "exact_text"


class contains(FunctionElement[bool]):
    """Whether the first text has the second in it, character by character."""

    type = Boolean()
    inherit_cache = True
    name = "contains"


class _json_text(FunctionElement[str]):
    type = Text()
    inherit_cache = True
    name = "json_text"


class _json_member(FunctionElement[str]):
    type = Text()
    inherit_cache = True
    name = "json_member"


def json_text(document: ColumnElement[Any], member: str | None = None) -> ColumnElement[Any]:
    """The text that a JSON document is, or that its ``member`` is; null when it is no text, or when the document has a NUL in
    it, which some engines refuse to decode."""
    decodable = ~contains(document, literal(ESCAPED_NUL))
    if member is None:
        return case((func.substr(document, 1, 1) == '"', case((decodable, _json_text(document)))))
    return case((decodable, _json_member(document, literal(member))))


@compiles(exact_text)
def _exact_text(element: Any, compiler: Any, **kwargs: Any) -> str:
    # SQLite's columns are compared byte by byte unless they say otherwise, and ours do not.
    return f"({compiler.process(element.clauses, **kwargs)})"


@compiles(exact_text, "postgresql")
def _exact_text_postgresql(element: Any, compiler: Any, **kwargs: Any) -> str:
    return f'({compiler.process(element.clauses, **kwargs)} COLLATE "C")'


@compiles(exact_text, "mysql")
@compiles(exact_text, "mariadb")
def _exact_text_mysql(element: Any, compiler: Any, **kwargs: Any) -> str:
    text = compiler.process(element.clauses, **kwargs)
    return f"(CONVERT({text} USING utf8mb4) COLLATE {exact_collation(compiler)})"


@compiles(contains)
@compiles(contains, "mysql")
@compiles(contains, "mariadb")
def _contains(element: Any, compiler: Any, **kwargs: Any) -> str:
    text, part = element.clauses
    return f"(instr({compiler.process(exact_text(text), **kwargs)}, {compiler.process(part, **kwargs)}) > 0)"


@compiles(contains, "postgresql")
def _contains_postgresql(element: Any, compiler: Any, **kwargs: Any) -> str:
    text, part = element.clauses
    return f"(strpos({compiler.process(text, **kwargs)}, CAST({compiler.process(part, **kwargs)} AS text)) > 0)"


@compiles(_json_text)
def _json_text_sqlite(element: Any, compiler: Any, **kwargs: Any) -> str:
    return f"json_extract({compiler.process(element.clauses, **kwargs)}, '$')"


@compiles(_json_text, "postgresql")
def _json_text_postgresql(element: Any, compiler: Any, **kwargs: Any) -> str:
    return f"(CAST({compiler.process(element.clauses, **kwargs)} AS json) #>> '{{}}')"


@compiles(_json_text, "mysql")
@compiles(_json_text, "mariadb")
def _json_text_mysql(element: Any, compiler: Any, **kwargs: Any) -> str:
    return f"json_unquote({compiler.process(element.clauses, **kwargs)})"


@compiles(_json_member)
def _json_member_sqlite(element: Any, compiler: Any, **kwargs: Any) -> str:
    document, member = (compiler.process(part, **kwargs) for part in element.clauses)
    return f"json_extract({document}, '$.' || {member})"


@compiles(_json_member, "postgresql")
def _json_member_postgresql(element: Any, compiler: Any, **kwargs: Any) -> str:
    document, member = (compiler.process(part, **kwargs) for part in element.clauses)
    return f"(CAST({document} AS json) ->> CAST({member} AS text))"


@compiles(_json_member, "mysql")
@compiles(_json_member, "mariadb")
def _json_member_mysql(element: Any, compiler: Any, **kwargs: Any) -> str:
    document, member = (compiler.process(part, **kwargs) for part in element.clauses)
    return f"json_unquote(json_extract({document}, concat('$.', {member})))"
