"""How columns are spelled on each engine. Text is compared and ordered by its code points everywhere: case, accents and
blanks at the end count, and every engine lists in the same order."""

from __future__ import annotations

from typing import Any

from sqlalchemy import LargeBinary, String, Text
from sqlalchemy.ext.compiler import compiles


class Name(String):
    """Text of bounded length, given in characters."""

    cache_ok = True


class Document(Text):
    """Text of any length."""

    cache_ok = True


class Blob(LargeBinary):
    """Bytes of any length."""

    cache_ok = True


@compiles(Name, "postgresql")
def _(kind: Name, compiler: Any, **_: Any) -> str:
    return f'VARCHAR({kind.length}) COLLATE "C"'


@compiles(Document, "postgresql")
def _(kind: Document, compiler: Any, **_: Any) -> str:
    return 'TEXT COLLATE "C"'


@compiles(Name, "mysql")
def _(kind: Name, compiler: Any, **_: Any) -> str:
    return f"VARCHAR({kind.length}) {_by_code_point(compiler)}"


@compiles(Document, "mysql")
def _(kind: Document, compiler: Any, **_: Any) -> str:
    return f"LONGTEXT {_by_code_point(compiler)}"


@compiles(Blob, "mysql")
def _(kind: Blob, compiler: Any, **_: Any) -> str:
    return "LONGBLOB"


def _by_code_point(compiler: Any) -> str:
    return f"CHARACTER SET utf8mb4 COLLATE {exact_collation(compiler)}"


def exact_collation(compiler: Any) -> str:
    """By code point, of utf8mb4 in MySQL and MariaDB. The plain utf8mb4_bin of both takes "a" and "a " for equal."""
    return "utf8mb4_nopad_bin" if compiler.dialect.is_mariadb else "utf8mb4_0900_bin"
