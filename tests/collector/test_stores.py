"""From an address to a store: every kind that is known, and one clear line without a password for what is wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import make_url

from collector.backends.servers import free_port
from looptap_collector.backend import Unavailable
from looptap_collector.backends.sql import SqlBackend
from looptap_collector.stores import open_store
from looptap_collector.testing.batches import Journal, points, started, told, write

SECRET = "s3cret-p4ss"


def go_through(backend: SqlBackend, name: str) -> None:
    assert backend._engine.dialect.name == name
    write(backend, Journal().batch(started(), series=[points("x", [1], [2.0])]))
    assert told(backend.history("r1", "x", {})) == {"steps": [1], "values": [2.0]}
    backend.close()


def test_a_folder(tmp_path: Path) -> None:
    """A path is a folder with a SQLite file, made only when that is wanted, durable when that is wanted."""
    folder = tmp_path / "store"
    with pytest.raises(FileNotFoundError, match="no looptap store in"):
        open_store(str(folder), create=False)
    go_through(open_store(str(folder), create=True), "sqlite")
    durable = open_store(str(folder), create=False, durable=True)
    with durable.snapshot() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2
    durable.close()


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "PostgreSQL"])
def test_a_postgresql_database(postgresql_address: str, scheme: str) -> None:
    """Both ways to write it, in any case."""
    go_through(open_store(postgresql_address.replace("postgresql", scheme), create=True), "postgresql")


@pytest.mark.parametrize("scheme", ["mysql", "mariadb"])
def test_a_mariadb_database(mariadb_address: str, scheme: str) -> None:
    """Both names of it."""
    go_through(open_store(mariadb_address.replace("mysql", scheme), create=True), "mysql")


def test_options_go_to_the_driver(postgresql_address: str) -> None:
    """What stands behind the question mark is the driver's: ``application_name`` here, ``sslmode`` in earnest."""
    backend = open_store(postgresql_address + "?application_name=otter", create=True)
    with backend.snapshot() as connection:
        assert connection.exec_driver_sql("SHOW application_name").scalar_one() == "otter"
    backend.close()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (f"redis://ada:{SECRET}@host/0", "redis:// is not an address of a store"),
        (f"https://ada:{SECRET}@host/", "https:// is not an address of a store"),
        (f"postgresql://ada:{SECRET}@host", "must look like postgresql://user:password@host/database"),
        (f"postgresql://ada:{SECRET}@host:port/db", "must look like postgresql://user:password@host/database"),
        (f"mysql://ada:{SECRET}@host/", "must look like mysql://user:password@host/database"),
    ],
)
def test_an_address_that_makes_no_sense(address: str, message: str) -> None:
    """Is told in one line that shows how an address looks, not what the password was."""
    with pytest.raises(ValueError, match=message) as caught:
        open_store(address, create=True)
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
def test_a_server_that_is_not_there(scheme: str) -> None:
    """Is told in one line that names it, without user, password and options."""
    address = f"{scheme}://ada:{SECRET}@127.0.0.1:{(port := free_port())}/db"
    with pytest.raises(Unavailable) as caught:
        open_store(address, create=True)
    assert str(caught.value).startswith(f"{scheme}://127.0.0.1:{port}/db: ")
    assert SECRET not in "".join(map(str, errors(caught.value)))
    assert "\n" not in str(caught.value)


def test_a_wrong_password(mariadb_address: str) -> None:
    """Is told without the password."""
    url = make_url(mariadb_address).set(username="root", password=SECRET)
    with pytest.raises(Unavailable, match="Access denied") as caught:
        open_store(url.render_as_string(hide_password=False), create=True)
    assert SECRET not in "".join(map(str, errors(caught.value)))


@pytest.mark.parametrize(("scheme", "driver"), [("postgresql", "psycopg"), ("mysql", "pymysql")])
def test_a_driver_that_is_not_installed(scheme: str, driver: str) -> None:
    """One line says what to install."""
    code = (
        f"import sys; sys.modules[{driver!r}] = None\n"
        "from looptap_collector.stores import open_store\n"
        f"try: open_store('{scheme}://ada:{SECRET}@host/db', create=True)\n"
        "except RuntimeError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"a store in {scheme}:// needs a driver: pip install 'looptap[{scheme}]'\n"


def test_a_folder_needs_no_driver(tmp_path: Path) -> None:
    """Opening a folder imports neither driver."""
    code = (
        "import sys; from looptap_collector.stores import open_store\n"
        "open_store(sys.argv[1], create=True).close()\n"
        "print(sorted({'psycopg', 'pymysql', 'alembic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "s")], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def errors(error: BaseException | None) -> list[BaseException]:
    """An error with all that led to it, as a traceback would show them."""
    found = []
    while error is not None:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found
