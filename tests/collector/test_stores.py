"""From an address to a store: every kind that is known, and one clear line without a password for what is wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import Request, urlopen

import msgspec
import pytest
from sqlalchemy import make_url

from collector.backends.servers import free_port
from looptap_collector.backend import Store, Unavailable
from looptap_collector.backends.sql import SqlBackend
from looptap_collector.stores import open_store
from looptap_collector.testing.batches import Journal, points, started, told, write

SECRET = "s3cret-p4ss"
EXAMPLE = Path(__file__).parents[2] / "examples" / "backends" / "one_file.py"


def go_through(backend: Store, name: str) -> None:
    assert isinstance(backend, SqlBackend)
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
    assert isinstance(durable, SqlBackend)
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
    assert isinstance(backend, SqlBackend)
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


def install(folder: Path, name: str, *schemes: str) -> None:
    """A package that opens these schemes, as an installer leaves it in ``folder``."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_bytes(EXAMPLE.read_bytes())
    information = folder / f"{name}-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    points = "".join(f"{scheme} = {name}:open_one_file\n" for scheme in schemes)
    (information / "entry_points.txt").write_text(f"[looptap.backends]\n{points}absent = {name}_absent:open\n")


def test_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It opens the schemes that it names by an entry point."""
    install(tmp_path / "packages", "one_file_store", "onefile")
    monkeypatch.syspath_prepend(tmp_path / "packages")
    store = open_store(f"onefile://{tmp_path}/runs.looptap", create=True)
    write(store, Journal().batch(started(), series=[points("x", [1], [2.0])]))
    store.close()
    assert (tmp_path / "runs.looptap").stat().st_size > 0
    with pytest.raises(RuntimeError, match="one_file_store_absent:open, which opens absent://, cannot be imported"):
        open_store("absent://x", create=True)


def test_two_packages_for_one_scheme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows which is meant; and the schemes that are built in belong to nobody else."""
    install(tmp_path / "packages", "one", "onefile", "mysql")
    install(tmp_path / "packages", "two", "onefile")
    monkeypatch.syspath_prepend(tmp_path / "packages")
    with pytest.raises(ValueError, match="several packages open onefile://: one:open_one_file, two:open_one_file"):
        open_store("onefile:///x", create=True)
    with pytest.raises(ValueError, match="must look like mysql://"):
        open_store("mysql://ada:x@host", create=True)


def test_a_collector_on_the_store_of_a_package(tmp_path: Path) -> None:
    """`looptap server` collects into it, tokens included, and other processes read what was acknowledged."""
    install(tmp_path / "packages", "one_file_store", "onefile")
    address = f"onefile://{tmp_path}/runs.looptap"
    path = os.pathsep.join([str(tmp_path / "packages"), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, "XDG_CONFIG_HOME": str(tmp_path / "config")}
    looptap = [sys.executable, "-m", "looptap.cli"]
    arguments = [*looptap, "server", "--store", address, "--artifacts", str(tmp_path / "files"), "--port", "0"]
    server = subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert server.stdout is not None
        lines = iter(server.stdout.readline, "")
        collecting = next(line for line in lines if "collecting at" in line)
        url = collecting.split("collecting at ")[1].split()[0]
        token = (tmp_path / "config" / "looptap" / "token").read_text().strip()
        batch = Journal().batch(started(), series=[points("x", [1], [2.0])])
        request = Request(
            f"{url}/v1/batches",
            msgspec.msgpack.encode(batch),
            {"Authorization": f"Bearer {token}", "Content-Type": "application/x-msgpack"},
        )
        with urlopen(request) as answer:
            assert msgspec.json.decode(answer.read()) == {"outcome": "stored"}
        listed = subprocess.run(
            [*looptap, "token", "list", "--store", address], env=environment, capture_output=True, text=True, check=True
        )
        assert "admin" in listed.stdout
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=30)
    spare = subprocess.run(
        [*looptap, "store", "gc", address, "--artifacts", str(tmp_path / "files")],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "0 files" in spare.stdout
