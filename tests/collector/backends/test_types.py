"""Every engine gets text that is compared by code points, and room for what is long."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.schema import CreateTable

from looptap_collector.backends import tables

POSTGRESQL: Any = postgresql.dialect
MYSQL: Any = mysql.dialect


@pytest.mark.parametrize(
    ("dialect", "name", "document", "blob"),
    [
        (sqlite.dialect(), "VARCHAR(512)", "TEXT", "BLOB"),
        (POSTGRESQL(), 'VARCHAR(512) COLLATE "C"', 'TEXT COLLATE "C"', "BYTEA"),
        (
            MYSQL(is_mariadb=True),
            "VARCHAR(512) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin",
            "LONGTEXT CHARACTER SET",
            "LONGBLOB",
        ),
        (MYSQL(), "VARCHAR(512) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin", "LONGTEXT CHARACTER SET", "LONGBLOB"),
    ],
    ids=["sqlite", "postgresql", "mariadb", "mysql"],
)
def test_columns_are_spelled_for_each_engine(dialect: Any, name: str, document: str, blob: str) -> None:
    """MySQL and MariaDB name the collation differently that sees blanks at the end."""
    tag = str(CreateTable(tables.tag).compile(dialect=dialect))
    assert f"{name} NOT NULL" in tag
    assert f"value {document}" in tag
    assert f"data {blob} NOT NULL" in str(CreateTable(tables.chunk).compile(dialect=dialect))
