"""A store in one SQLite file: the default, and plain to any tool that reads SQLite.

The file is in write-ahead mode: readers never wait, and writers of several processes take turns for the
length of one batch. A commit survives the death of the process; after a power cut the last ones may be
missing, never half there.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import Connection, create_engine, event, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from looptap.events import Artifact, Batch, Context
from looptap_collector.backend import Delivery, History, Outcome, ParamRow, RunPage, RunQuery, RunRow, SeriesRow
from looptap_collector.backends import reading, searching, tables
from looptap_collector.backends.appending import merge_small_chunks
from looptap_collector.backends.schema import UnusableStore, bring_to_head, is_at_head
from looptap_collector.backends.writing import write_batch

#: "loop" in the file's header tells a looptap store from any other SQLite file.
APPLICATION_ID = 0x6C6F6F70
BUSY_SECONDS = 5.0


class StoreUnavailable(OSError):
    """The store cannot be used now: locked by another process, disk full, I/O error. Nothing of the call was
    stored."""


class SqliteBackend:
    """See :class:`looptap_collector.backend.Backend`. Not to be used across a fork: open another one in the
    child.

    Raises :class:`UnusableStore` when the file is not a looptap store or of a newer version, and
    :class:`StoreUnavailable` when it cannot be opened now.
    """

    def __init__(self, path: Path, *, busy_seconds: float = BUSY_SECONDS) -> None:
        self._path = path
        self._busy_seconds = busy_seconds
        self._engine = create_engine("sqlite://", creator=self._connect, poolclass=QueuePool, hide_parameters=True)
        event.listen(self._engine, "begin", _begin)
        self._writing = self._engine.execution_options(looptap_begin="BEGIN IMMEDIATE")
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def write(self, batch: Batch) -> Outcome:
        with self._transaction() as connection:
            return write_batch(connection, batch)

    def set_status(self, run: str, status: str, *, ended_ns: int | None, error: str | None = None) -> None:
        columns = tables.run.c
        with self._transaction() as connection:
            connection.execute(
                update(tables.run)
                .where(columns.run == run, columns.told_end == 0)
                .values(status=status, ended_ns=ended_ns, error=error)
            )
            merge_small_chunks(connection, run)

    def delivery(self, run: str) -> Sequence[Delivery]:
        with self._snapshot() as connection:
            return reading.deliveries(connection, run)

    def position(self, journal: str) -> int:
        with self._snapshot() as connection:
            return reading.position(connection, journal)

    def runs(self, *, experiment: str | None = None, limit: int | None = None) -> Sequence[RunRow]:
        with self._snapshot() as connection:
            return reading.runs(connection, experiment, limit)

    def run(self, run: str) -> RunRow | None:
        with self._snapshot() as connection:
            return reading.run(connection, run)

    def search(self, query: RunQuery) -> RunPage:
        with self._snapshot() as connection:
            return searching.search(connection, query)

    def params(self, run: str, *, revisions: bool = False) -> Sequence[ParamRow]:
        with self._snapshot() as connection:
            return reading.params(connection, run, revisions)

    def tags(self, run: str) -> dict[str, str]:
        with self._snapshot() as connection:
            return reading.tags(connection, run)

    def series(self, runs: Sequence[str]) -> Sequence[SeriesRow]:
        with self._snapshot() as connection:
            return reading.series(connection, runs)

    def history(self, run: str, key: str, context: Context) -> History:
        with self._snapshot() as connection:
            return reading.history(connection, run, key, context)

    def artifacts(self, run: str) -> Sequence[Artifact]:
        with self._snapshot() as connection:
            return reading.artifacts(connection, run)

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with _errors_in_one_line(self._path), self._writing.begin() as connection:
            if _identity(self._path) != self._file:
                # SQLite would go on writing into the file that nobody can find any more.
                raise StoreUnavailable(f"{self._path} was moved, replaced or deleted while in use")
            yield connection

    @contextmanager
    def _snapshot(self) -> Iterator[Connection]:
        with _errors_in_one_line(self._path), self._engine.begin() as connection:
            yield connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=self._busy_seconds, isolation_level=None, check_same_thread=False
        )
        # A file that somebody prepared must not run code of its choice when we read it.
        for pragma in ("trusted_schema=OFF", "cell_size_check=ON", "foreign_keys=ON", "synchronous=NORMAL"):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    def _open(self) -> None:
        with _errors_in_one_line(self._path):
            # Only the owner may read it; SQLite gives its side files the mode of the file.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            with _foreign_files_refused(self._path), closing(self._connect()) as plain:
                _until(self._busy_seconds, lambda: _check_owner(plain, self._path))
                _until(self._busy_seconds, lambda: plain.execute("PRAGMA journal_mode=WAL").fetchone())
                self._file = _identity(self._path)
        with self._snapshot() as connection:
            ready = is_at_head(connection)
        if not ready:
            with self._transaction() as connection:
                bring_to_head(connection, str(self._path))
                connection.exec_driver_sql(f"PRAGMA application_id={APPLICATION_ID}")


def _begin(connection: Connection) -> None:
    # The driver's own way of beginning is off (isolation_level=None): it starts writers as readers, and two
    # of those that want to write next fail at once instead of waiting for each other.
    connection.exec_driver_sql(connection.get_execution_options().get("looptap_begin", "BEGIN"))


@contextmanager
def _errors_in_one_line(path: Path) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        raise StoreUnavailable(f"{path}: {error.orig}") from error
    except sqlite3.Error as error:
        raise StoreUnavailable(f"{path}: {error}") from error


@contextmanager
def _foreign_files_refused(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        # The subclasses tell of locks, full disks and the like; the class itself, of content that makes no sense.
        if type(error) is not sqlite3.DatabaseError:
            raise
        raise UnusableStore(f"{path} is not a looptap store ({error})") from error


def _check_owner(connection: sqlite3.Connection, path: Path) -> None:
    """Nothing is changed in a file that is not ours."""
    # In one transaction: another process may be creating the store at this moment.
    connection.execute("BEGIN")
    try:
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        objects = connection.execute("SELECT type FROM sqlite_master").fetchall()
    finally:
        connection.rollback()
    if objects and application_id != APPLICATION_ID:
        raise UnusableStore(f"{path} is not a looptap store")
    if ("trigger",) in objects:
        raise UnusableStore(f"{path} has triggers, which looptap never makes; it will not be opened")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _until(seconds: float, change: Callable[[], object]) -> None:
    """SQLite does not always wait by itself while another process changes the journal mode."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            change()
            return
        except sqlite3.OperationalError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.02)
