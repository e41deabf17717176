"""The contract on a real PostgreSQL server, and what only a server can go through: broken connections, collisions, a
standby that only reads, foreign tables."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from sqlalchemy import make_url

from collector.backends.interruptions import InterruptionContract
from collector.backends.patience import PatienceContract
from looptap.events import Dataset, RunEnded
from looptap_collector.backend import Backend, Outcome, Unavailable
from looptap_collector.backends import postgresql
from looptap_collector.backends.postgresql import PostgresqlBackend
from looptap_collector.backends.schema import UnusableStore
from looptap_collector.testing.backend import BackendContract, CompactionContract, LongWindowContract, TokenContract
from looptap_collector.testing.batches import Journal, points, started, told, write


def open_one(address: str) -> PostgresqlBackend:
    return PostgresqlBackend(make_url(address))


def sql(address: str, *statements: str) -> None:
    with psycopg.connect(address, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


@pytest.fixture
def open_another(postgresql_address: str) -> Callable[[], PostgresqlBackend]:
    return lambda: open_one(postgresql_address)


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


# Sequences are not rolled back, so they count over transactions that fail.
TRIGGER = """
CREATE SEQUENCE hits; CREATE TABLE most (n bigint); INSERT INTO most VALUES (0);
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF nextval('hits') <= (SELECT n FROM most) THEN {failure}; END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER fail AFTER INSERT ON chunk DEFERRABLE INITIALLY {moment} FOR EACH ROW EXECUTE FUNCTION fail()
"""
KILL = "PERFORM pg_terminate_backend(pg_backend_pid())"


@pytest.fixture
def kill_connections(postgresql_address: str) -> Callable[[], None]:
    kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND {}"
    return lambda: sql(postgresql_address, kill.format("pid != pg_backend_pid()"))


@pytest.fixture(
    params=[
        (KILL, "IMMEDIATE"),
        (KILL, "DEFERRED"),
        ("RAISE EXCEPTION USING ERRCODE = '40001'", "IMMEDIATE"),
        ("RAISE EXCEPTION USING ERRCODE = '40P01'", "DEFERRED"),
    ],
    ids=["killed in COPY", "killed in COMMIT", "not serializable", "deadlock at COMMIT"],
)
def failing(backend: Backend, postgresql_address: str, request: pytest.FixtureRequest) -> Callable[[int], None]:
    failure, moment = request.param
    sql(postgresql_address, TRIGGER.format(failure=failure, moment=moment))
    return lambda most: sql(postgresql_address, "ALTER SEQUENCE hits RESTART", f"UPDATE most SET n = {most}")


@pytest.fixture
def server_port(postgresql_server: str) -> int:
    return make_url(postgresql_server).port or 0


@pytest.fixture
def through(postgresql_address: str, server_port: int) -> Callable[[int], Backend]:
    return lambda port: open_one(postgresql_address.replace(str(server_port), str(port)))


class TestInterruptions(InterruptionContract):
    pass


def test_nobody_waits_for_a_writer_that_hangs(postgresql_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that another transaction holds is told "not now" after a while, other runs are written, and once it is free
    the same batch goes in."""
    monkeypatch.setattr(postgresql, "LOCK_SECONDS", 1)
    backend = open_one(postgresql_address)
    journal = Journal()
    write(backend, journal.batch(started()))
    end = journal.batch(RunEnded("finished", 1))
    with psycopg.connect(postgresql_address) as hanging:
        hanging.execute("SELECT * FROM run WHERE run = 'r1' FOR UPDATE")
        assert write(backend, Journal("j2", "r2").batch(started("r2"))) is Outcome.STORED
        with pytest.raises(Unavailable, match="lock timeout"):
            write(backend, end)
        assert backend.runs()
    assert write(backend, end) is Outcome.STORED
    backend.close()


def test_a_standby_is_read_and_not_written(postgresql_address: str) -> None:
    """On a server that only reads, what is there can be looked at; a write is told "not now" and goes in after the
    server has become the primary."""
    before = open_one(postgresql_address)
    journal = Journal()
    write(before, journal.batch(started(), series=[points("x", [1], [1.0])]))
    before.close()
    database = make_url(postgresql_address).database
    sql(postgresql_address, f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    standby = open_one(postgresql_address)
    assert told(standby.history("r1", "x", {})) == {"steps": [1], "values": [1.0]}
    end = journal.batch(RunEnded("finished", 1))
    with pytest.raises(Unavailable, match="read-only transaction"):
        write(standby, end)
    standby.close()
    sql(postgresql_address.replace(f"/{database}", "/postgres"), f"ALTER DATABASE {database} RESET ALL")
    primary = open_one(postgresql_address)
    assert write(primary, end) is Outcome.STORED
    primary.close()


def test_many_make_the_tables_at_once(postgresql_address: str) -> None:
    """Collectors that start together find one store, whoever made it."""
    with ThreadPoolExecutor(6) as pool:
        opened = list(pool.map(open_one, [postgresql_address] * 6))
    for number, backend in enumerate(opened):
        write(backend, Journal(f"j{number}").batch(started()))
        backend.close()


def test_foreign_tables_are_left_alone(postgresql_address: str) -> None:
    """A database of another program is refused in one line, and no table is added to it."""
    sql(postgresql_address, "CREATE TABLE run (name text)")
    with pytest.raises(UnusableStore, match=r"^postgresql://127\.0\.0\.1:\d+/test_\d+ is not a looptap store$"):
        open_one(postgresql_address)
    with psycopg.connect(postgresql_address) as connection:
        tables = connection.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
        assert tables.fetchall() == [("run",)]


def test_a_newer_store_is_refused(postgresql_address: str) -> None:
    """A store of a later version is left alone, with one line that says what to do."""
    open_one(postgresql_address).close()
    sql(postgresql_address, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(UnusableStore, match=r"newer looptap .*'9999'.*pip install -U looptap$"):
        open_one(postgresql_address)


def test_two_rows_of_one_series_cannot_be(backend: Backend, postgresql_address: str) -> None:
    """The index over names of series is unique, though a context may be longer than what fits into an index."""
    write(backend, Journal().batch(started(), series=[points("x", [1], [1.0], {"a" * 512: "b" * 512})]))
    columns = "run, key, context, count, nan_count, last, first_step, last_step, last_time_ns, next_part, tail_part"
    copy = f"INSERT INTO series ({columns}, tail_points) SELECT {columns}, tail_points FROM series"
    with pytest.raises(psycopg.errors.UniqueViolation, match="series_by_name"):
        sql(postgresql_address, copy)


def test_tables_of_before_datasets_are_upgraded(postgresql_address: str) -> None:
    """What was there stays, and data can be told."""
    backend = open_one(postgresql_address)
    write(backend, Journal().batch(started()))
    backend.close()
    sql(
        postgresql_address,
        "DROP TABLE run_dataset",
        "DROP TABLE dataset_version",
        "DROP TABLE dataset",
        "UPDATE alembic_version SET version_num = '0003'",
    )
    backend = open_one(postgresql_address)
    fed = Dataset("é ", 1, fingerprint="f", algorithm="a", covers="c")
    write(backend, Journal("j2").batch(started(), fed))
    assert [use.dataset for use in backend.datasets(fingerprints=["f"])] == [fed]
    assert [row.run for row in backend.runs()] == ["r1"]
    backend.close()
