from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pymysql
import pytest
from sqlalchemy import make_url

from collector.backends import servers
from collector.recorded import new_store
from looptap_collector.backend import Backend


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The folder of a store; the same as in LOOPTAP_STORE."""
    return tmp_path / "store"


@pytest.fixture
def backend(store: Path) -> Iterator[Backend]:
    """A new SQLite store in :func:`store`."""
    opened = new_store(store)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    with servers.postgresql() as address:
        yield address


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[str]:
    with servers.mariadb() as address:
        yield address


_numbers = itertools.count()


@pytest.fixture
def postgresql_address(postgresql_server: str) -> str:
    """Of an empty database on a real server."""
    name = f"test_{next(_numbers)}"
    with psycopg.connect(postgresql_server + "postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return postgresql_server + name


@pytest.fixture
def mariadb_address(mariadb_server: str) -> str:
    """Of an empty database on a real server."""
    name = f"test_{next(_numbers)}"
    with pymysql.connect(host="127.0.0.1", port=make_url(mariadb_server).port or 0, user="root") as connection:
        connection.cursor().execute(f"CREATE DATABASE {name}")
    return mariadb_server + name
