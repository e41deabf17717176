"""The contract on a real MariaDB server, and what is MySQL's own: broken connections, a replica that only reads, statements
that are bounded."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pymysql
import pytest
from sqlalchemy import event, make_url, text

from collector.backends.interruptions import InterruptionContract
from collector.backends.patience import PatienceContract
from looptap.events import Dataset, Note, RunEnded
from looptap_collector.backend import Backend, Outcome, Unavailable
from looptap_collector.backends import mysql, schema, tables
from looptap_collector.backends.mysql import MysqlBackend
from looptap_collector.backends.schema import UnusableStore
from looptap_collector.testing.backend import BackendContract, CompactionContract, LongWindowContract, TokenContract
from looptap_collector.testing.batches import Journal, points, started, told, write


def open_one(address: str) -> MysqlBackend:
    return MysqlBackend(make_url(address))


def sql(address: str, *statements: str) -> list[tuple[object, ...]]:
    """The rows of the last statement."""
    url = make_url(address)
    assert url.port is not None
    with pymysql.connect(
        host="127.0.0.1", port=url.port, user="root", database=url.database, autocommit=True
    ) as connection:
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement)
        return list(cursor.fetchall())


@pytest.fixture
def open_another(mariadb_address: str) -> Callable[[], MysqlBackend]:
    return lambda: open_one(mariadb_address)


class TestContract(BackendContract):
    pass


class TestPatience(PatienceContract):
    pass


class TestTokens(TokenContract):
    pass


class TestCompaction(CompactionContract):
    pass


class TestLongWindows(LongWindowContract):
    pass


@pytest.fixture
def kill_connections(mariadb_address: str) -> Callable[[], None]:
    others = "SELECT id FROM information_schema.processlist WHERE db = database() AND id != connection_id()"

    def kill() -> None:
        for (number,) in sql(mariadb_address, others):
            with suppress(pymysql.err.OperationalError):  # gone by itself
                sql(mariadb_address, f"KILL {number}")

    return kill


@pytest.fixture(params=["KILL CONNECTION_ID()", "1213", "1020"], ids=["killed", "deadlock", "changed since last read"])
def failing(backend: Backend, mariadb_address: str, request: pytest.FixtureRequest) -> Callable[[int], None]:
    failure = request.param
    if failure.isdigit():
        failure = f"SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = {failure}"
    sql(
        mariadb_address,
        # What is counted in this engine is not rolled back.
        "CREATE TABLE hits (n INT, most INT) ENGINE = MyISAM",
        "INSERT INTO hits VALUES (0, 0)",
        f"""
        CREATE TRIGGER fail AFTER INSERT ON chunk FOR EACH ROW BEGIN
            UPDATE hits SET n = n + 1;
            IF (SELECT n <= most FROM hits) THEN {failure}; END IF;
        END
        """,
    )
    return lambda most: void(sql(mariadb_address, f"UPDATE hits SET n = 0, most = {most}"))


def void(_: object) -> None:
    return None


@pytest.fixture
def server_port(mariadb_server: str) -> int:
    return make_url(mariadb_server).port or 0


@pytest.fixture
def through(mariadb_address: str, server_port: int) -> Callable[[int], Backend]:
    return lambda port: open_one(mariadb_address.replace(str(server_port), str(port)))


class TestInterruptions(InterruptionContract):
    pass


def test_nobody_waits_for_a_writer_that_hangs(mariadb_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that another transaction holds is told "not now" after a while, other runs are written, and once it is free
    the same batch goes in."""
    monkeypatch.setattr(mysql, "LOCK_SECONDS", 1)
    backend = open_one(mariadb_address)
    journal = Journal()
    write(backend, journal.batch(started()))
    end = journal.batch(RunEnded("finished", 1))
    with backend._engine.begin() as hanging:
        hanging.execute(text("SELECT * FROM run WHERE run = 'r1' FOR UPDATE")).all()
        assert write(backend, Journal("j2", "r2").batch(started("r2"))) is Outcome.STORED
        with pytest.raises(Unavailable, match="Lock wait timeout"):
            write(backend, end)
        assert backend.runs()
    assert write(backend, end) is Outcome.STORED
    backend.close()


def test_a_replica_is_read_and_not_written(mariadb_address: str) -> None:
    """On a server that only reads, what is there can be looked at; a write is told "not now" and goes in after the
    server has become the primary."""
    url = make_url(mariadb_address)
    # Those who administer the server may always write.
    sql(mariadb_address, "CREATE OR REPLACE USER plain", f"GRANT ALL ON {url.database}.* TO plain")
    address = mariadb_address.replace("root@", "plain@")
    journal = Journal()
    backend = open_one(address)
    write(backend, journal.batch(started(), series=[points("x", [1], [1.0])]))
    end = journal.batch(RunEnded("finished", 1))
    sql(mariadb_address, "SET GLOBAL read_only = 1")
    try:
        with pytest.raises(Unavailable, match="read-only"):
            write(backend, end)
        replica = open_one(address)
        assert told(replica.history("r1", "x", {})) == {"steps": [1], "values": [1.0]}
        replica.close()
    finally:
        sql(mariadb_address, "SET GLOBAL read_only = 0")
    assert write(backend, end) is Outcome.STORED
    backend.close()


def test_a_server_that_takes_only_short_statements_is_refused(mariadb_address: str) -> None:
    """A chunk would not fit; better told when the store is opened than by the first long batch."""
    ((before,),) = sql(mariadb_address, "SELECT @@GLOBAL.max_allowed_packet")
    sql(mariadb_address, "SET GLOBAL max_allowed_packet = 1048576")
    try:
        with pytest.raises(UnusableStore, match="1048576 bytes; set max_allowed_packet to 4194304 or more"):
            open_one(mariadb_address)
    finally:
        sql(mariadb_address, f"SET GLOBAL max_allowed_packet = {before}")


def test_many_make_the_tables_at_once(mariadb_address: str) -> None:
    """Collectors that start together find one store, whoever made it."""
    with ThreadPoolExecutor(6) as pool:
        opened = list(pool.map(open_one, [mariadb_address] * 6))
    for number, backend in enumerate(opened):
        write(backend, Journal(f"j{number}").batch(started()))
        backend.close()


def test_tables_that_were_left_unfinished_are_made_anew(mariadb_address: str) -> None:
    """MySQL has no transaction around the making of tables: whoever comes after a collector that died at it begins again."""

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    event.listen(tables.note, "after_create", die)
    try:
        with pytest.raises(KeyboardInterrupt):
            open_one(mariadb_address)
    finally:
        event.remove(tables.note, "after_create", die)
    left = {name for (name,) in sql(mariadb_address, "SHOW TABLES")}
    assert "note" in left
    assert "run_metrics" not in left
    backend = open_one(mariadb_address)
    write(backend, Journal().batch(started(), Note("a", "b", 1), series=[points("x", [1], [1.0])]))
    backend.close()
    assert sql(mariadb_address, "SELECT last FROM run_metrics") == [(1.0,)]
    assert sql(mariadb_address, "SELECT version_num FROM alembic_version") == [(schema.HEAD,)]


def test_foreign_tables_are_left_alone(mariadb_address: str) -> None:
    """A database of another program is refused in one line, and no table is added to it."""
    sql(mariadb_address, "CREATE TABLE run (name text)")
    with pytest.raises(UnusableStore, match=r"^mysql://127\.0\.0\.1:\d+/test_\d+ is not a looptap store$"):
        open_one(mariadb_address)
    assert sql(mariadb_address, "SHOW TABLES") == [("run",)]


def test_text_is_compared_by_code_points(backend: Backend, mariadb_address: str) -> None:
    """Every column of text has the collation that folds nothing and pads nothing."""
    collations = sql(
        mariadb_address,
        "SELECT DISTINCT collation_name FROM information_schema.columns WHERE table_schema = database() "
        "AND collation_name IS NOT NULL AND table_name NOT IN ('alembic_version', 'run_metrics')",
    )
    assert collations == [("utf8mb4_nopad_bin",)]


def test_tables_of_before_datasets_are_upgraded(mariadb_address: str) -> None:
    """Also where an upgrade was cut off in its middle: MySQL keeps no tables back until the end of a transaction."""
    backend = open_one(mariadb_address)
    write(backend, Journal().batch(started()))
    backend.close()
    for name in ("run_dataset", "dataset_version"):
        sql(mariadb_address, f"DROP TABLE {name}")
    sql(mariadb_address, "UPDATE alembic_version SET version_num = '0003'")
    backend = open_one(mariadb_address)
    fed = Dataset("é ", 1, fingerprint="f", algorithm="a", covers="c")
    write(backend, Journal("j2").batch(started(), fed))
    assert [use.dataset for use in backend.datasets(fingerprints=["f"])] == [fed]
    assert backend.delete_run("r1")
    backend.close()
    assert sql(mariadb_address, "SELECT version_num FROM alembic_version") == [(schema.HEAD,)]
    assert sql(mariadb_address, "SELECT count(*) FROM dataset_version") == [(0,)]
