"""A store in one SQLite file: the default, and plain to any tool that reads SQLite.

The file is in write-ahead mode: readers never wait, and writers of several processes take turns for the
length of one batch. A commit survives the death of the process; after a power cut the last ones may be
missing, never half there.
"""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.pool import QueuePool

from looptap_collector.backend import Unavailable
from looptap_collector.backends.schema import UnusableStore
from looptap_collector.backends.sql import SqlBackend

#: "loop" in the file's header tells a looptap store from any other SQLite file.
APPLICATION_ID = 0x6C6F6F70
BUSY_SECONDS = 5.0
#: A file is made smaller when one page in so many is free: it is written anew as a whole.
_LEAST_FREE = 20
#: For other tools; we never read it.
_VIEWS = {"run_metrics"}
_VIRTUAL = re.compile(r"\s*CREATE\s+VIRTUAL\b", re.IGNORECASE)
#: Steps of SQLite's machine between two looks at the clock: about a millisecond.
_STEPS_BETWEEN_LOOKS = 20_000


class SqliteBackend(SqlBackend):
    """See :class:`looptap_collector.backend.Backend`. Not to be used across a fork: open another one in the
    child. With ``durable``, what was written survives a power cut too.

    Raises :class:`UnusableStore` when the file is not a looptap store or of a newer version, and
    :class:`Unavailable` when it cannot be opened now.
    """

    def __init__(self, path: Path, *, durable: bool = False, busy_seconds: float = BUSY_SECONDS) -> None:
        self._path = path
        self._log = path.with_name(path.name + "-wal")
        self._files: dict[Path, tuple[int, int] | None] = {}
        self._durable = durable
        self._busy_seconds = busy_seconds
        engine = create_engine("sqlite://", creator=self._connect, poolclass=QueuePool, hide_parameters=True)
        super().__init__(engine, str(path))
        event.listen(engine, "begin", _begin)
        self._writing = engine.execution_options(looptap_begin="BEGIN IMMEDIATE")
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def faults(self) -> list[str]:
        with self.snapshot() as connection:
            found = list(connection.exec_driver_sql("PRAGMA quick_check").scalars())
        return [] if found == ["ok"] else found

    def shrink(self) -> int:
        with _errors_in_one_line(self._path), closing(self._connect()) as plain:
            plain.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            before = self._path.stat().st_size
            (pages,) = plain.execute("PRAGMA page_count").fetchone()
            (free,) = plain.execute("PRAGMA freelist_count").fetchone()
            if free * _LEAST_FREE < pages:
                return 0
            self._before_change()
            plain.execute("VACUUM")
            plain.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return max(0, before - self._path.stat().st_size)

    @contextmanager
    def _bounded(self, connection: Connection, seconds: float) -> Iterator[None]:
        driver: Any = connection.connection.driver_connection
        deadline = time.monotonic() + seconds
        driver.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS_BETWEEN_LOOKS)
        try:
            yield
        finally:
            driver.set_progress_handler(None, 0)

    def _took_too_long(self, error: BaseException) -> bool:
        return isinstance(error, sqlite3.OperationalError) and str(error) == "interrupted"

    def _before_change(self) -> None:
        for file, identity in list(self._files.items()):
            if _identity(file) != identity:
                # SQLite would go on writing into the file that nobody can find any more.
                raise Unavailable(f"{file} was moved, replaced or deleted while in use")
        # As long as a connection is open, the log stays the same file.
        if self._log not in self._files and (identity := _identity(self._log)) is not None:
            self._files[self._log] = identity

    def _bring_to_head(self, connection: Connection) -> None:
        super()._bring_to_head(connection)
        connection.exec_driver_sql(f"PRAGMA application_id={APPLICATION_ID}")

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=self._busy_seconds, isolation_level=None, check_same_thread=False
        )
        # A file that somebody prepared must not run code of its choice when we read it.
        synchronous = f"synchronous={'FULL' if self._durable else 'NORMAL'}"
        for pragma in ("trusted_schema=OFF", "cell_size_check=ON", "foreign_keys=ON", synchronous):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    def _open(self) -> None:
        with _errors_in_one_line(self._path):
            # Only the owner may read it; SQLite gives its side files the mode of the file. A file that is there is not opened:
            # closing it would take away the locks that other connections of this process hold on it (fcntl(2)), and then another
            # process removes the log under them.
            with suppress(FileExistsError):
                os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            with _foreign_files_refused(self._path), closing(self._connect()) as plain:
                _until(self._busy_seconds, lambda: _check_owner(plain, self._path))
                _until(self._busy_seconds, lambda: plain.execute("PRAGMA journal_mode=WAL").fetchone())
                self._files[self._path] = _identity(self._path)
        self._make_tables()


def _begin(connection: Connection) -> None:
    # The driver's own way of beginning is off (isolation_level=None): it starts writers as readers, and two
    # of those that want to write next fail at once instead of waiting for each other.
    connection.exec_driver_sql(connection.get_execution_options().get("looptap_begin", "BEGIN"))


@contextmanager
def _errors_in_one_line(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise Unavailable(f"{path}: {error}") from error


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
        objects = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
    finally:
        connection.rollback()
    if objects and application_id != APPLICATION_ID:
        raise UnusableStore(f"{path} is not a looptap store")
    for kind, name, sql in objects:
        is_virtual = kind == "table" and _VIRTUAL.match(sql or "")
        if kind == "trigger" or is_virtual or (kind == "view" and name not in _VIEWS):
            what = "virtual table" if is_virtual else kind
            raise UnusableStore(f"{path} has a {what} {name!r}, which looptap never makes; it will not be opened")


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
