"""The few statements that each SQL engine says in its own way."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import Any

from sqlalchemy import Connection, Executable, Table, insert

from looptap_collector.backends import tables
from looptap_collector.doubles import exact


def insert_missing(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Rows whose key is there already are left out."""
    if rows:
        connection.execute(_insert_missing(connection.dialect.name, table), rows)


def upsert(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Rows whose primary key is there already get the other columns of these."""
    if rows:
        connection.execute(_upsert(connection.dialect.name, table, tuple(rows[0])), rows)


def insert_chunks(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        _copy_chunks(connection, rows)
    else:
        connection.execute(_INSERT_CHUNK, rows)


_INSERT_CHUNK = insert(tables.chunk)
_COPY_TYPES = {
    "series_id": "int8",
    "part": "int4",
    "count": "int4",
    "nan_count": "int4",
    "min": "int8",
    "max": "int8",
    "first_step": "int8",
    "last_step": "int8",
    "data": "bytea",
}
_COPY_CHUNKS = f"COPY chunk ({', '.join(_COPY_TYPES)}) FROM STDIN (FORMAT BINARY)"


def _copy_chunks(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """The blobs travel as they are, in one go. Errors are the driver's own."""
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy(_COPY_CHUNKS) as copy:
        copy.set_types(list(_COPY_TYPES.values()))
        for row in rows:
            doubles = {name: None if row[name] is None else exact(row[name]) for name in ("min", "max")}
            copy.write_row([(row | doubles)[name] for name in _COPY_TYPES])


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
