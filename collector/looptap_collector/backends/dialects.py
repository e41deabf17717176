"""The few statements that each SQL engine says in its own way."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import Any

from sqlalchemy import Connection, Executable, Table, insert

from looptap_collector.backends import tables


def insert_missing(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Rows whose key is there already are left out."""
    if rows:
        connection.execute(_insert_missing(connection.dialect.name, table), rows)


def upsert(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Rows whose primary key is there already get the other columns of these."""
    if rows:
        connection.execute(_upsert(connection.dialect.name, table, tuple(rows[0])), rows)


def insert_chunks(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        connection.execute(_INSERT_CHUNK, rows)


_INSERT_CHUNK = insert(tables.chunk)


@cache
def _insert_missing(dialect: str, table: Table) -> Executable:
    statement = _insert_of(dialect)(table)
    if dialect == "mysql":
        # Not INSERT IGNORE, which also cuts what is too long.
        (some_column, *_) = table.c
        return statement.on_duplicate_key_update({some_column.name: some_column})  # type: ignore[no-any-return]
    return statement.on_conflict_do_nothing()  # type: ignore[no-any-return]


@cache
def _upsert(dialect: str, table: Table, names: tuple[str, ...]) -> Executable:
    statement = _insert_of(dialect)(table)
    key = [column.name for column in table.primary_key]
    new = statement.inserted if dialect == "mysql" else statement.excluded
    changes = {name: new[name] for name in names if name not in key}
    if dialect == "mysql":
        return statement.on_duplicate_key_update(changes)  # type: ignore[no-any-return]
    return statement.on_conflict_do_update(index_elements=key, set_=changes)  # type: ignore[no-any-return]


def _insert_of(dialect: str) -> Any:
    return import_module(f"sqlalchemy.dialects.{dialect}").insert
