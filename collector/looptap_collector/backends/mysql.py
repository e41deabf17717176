"""A store in a MySQL (8.0 or later) or MariaDB (10.6 or later) database, for several collectors at once.

Writers lock the rows of runs as in :mod:`looptap_collector.backends.postgresql` (decision 0013).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import URL, Connection, event, text

from looptap_collector.backend import Unavailable
from looptap_collector.backends.schema import UnusableStore
from looptap_collector.backends.sql import SqlBackend, engine_of_server, place_of

#: The largest chunk takes 1.6 MB, and twice as much where every byte must be escaped.
LEAST_PACKET_BYTES = 4 << 20
#: So long a writer waits for another one that hangs inside a transaction.
LOCK_SECONDS = 10
#: Names of locks are the same for all databases of a server, and short.
_SCHEMA_LOCK = "CONCAT('looptap ', MD5(DATABASE()))"
#: duplicate key, row of a run that was deleted, deadlock, MariaDB's "record has changed since last read"
_COLLISIONS = {1062, 1452, 1213, 1020}
#: a statement beyond its time: MySQL's number and MariaDB's
_OUT_OF_TIME = {3024, 1969}
#: server shutting down, connection killed, cannot connect, gone away, lost
_BROKEN = {1053, 1927, 2003, 2006, 2013, 2055, 0}


class MysqlBackend(SqlBackend):
    """See :class:`looptap_collector.backend.Backend`. The database must exist; the tables are made when it is empty.

    Raises :class:`UnusableStore` when the tables are not ours or of a newer version, or the server takes too short
    statements, and :class:`Unavailable` when the server cannot be reached or refuses us.
    """

    tries = 6

    def __init__(self, url: URL) -> None:
        engine = engine_of_server(
            url.set(drivername="mysql+pymysql"),
            {
                "charset": "utf8mb4",
                "connect_timeout": 10,
                "read_timeout": 60,
                "write_timeout": 60,
                # Names in double quotes, as in every other engine; and nothing is cut that does not fit.
                "sql_mode": "ANSI_QUOTES,STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION",
            },
        )
        super().__init__(engine, place_of(url))
        event.listen(engine, "connect", _prepare)
        try:
            self._check_packets()
            self._make_tables()
        except BaseException:
            self.close()
            raise

    def _check_packets(self) -> None:
        with self.snapshot() as connection:
            (size,) = connection.execute(text("SELECT @@max_allowed_packet")).one()
        if size < LEAST_PACKET_BYTES:
            raise UnusableStore(
                f"{self.place} takes statements of {size} bytes; set max_allowed_packet to {LEAST_PACKET_BYTES} or more"
            )

    def _bring_to_head(self, connection: Connection) -> None:
        # Not released by a commit, which every statement that makes a table brings about.
        if connection.execute(text(f"SELECT GET_LOCK({_SCHEMA_LOCK}, 60)")).scalar_one() != 1:
            raise Unavailable(f"{self.place}: another collector is making the tables")
        try:
            super()._bring_to_head(connection)
        finally:
            connection.execute(text(f"SELECT RELEASE_LOCK({_SCHEMA_LOCK})"))

    @contextmanager
    def _bounded(self, connection: Connection, seconds: float) -> Iterator[None]:
        is_mariadb = bool(getattr(connection.dialect, "is_mariadb", False))
        name, most = ("max_statement_time", seconds) if is_mariadb else ("max_execution_time", round(seconds * 1000))
        connection.exec_driver_sql(f"SET SESSION {name} = {most}")
        try:
            yield
        finally:
            # The connection goes back to the pool as it came. One that broke does not.
            if not connection.invalidated:
                connection.exec_driver_sql(f"SET SESSION {name} = DEFAULT")

    def _took_too_long(self, error: BaseException) -> bool:
        return bool(error.args) and error.args[0] in _OUT_OF_TIME

    def _is_passing(self, error: BaseException) -> bool:
        number = error.args[0] if error.args else None
        return number in _COLLISIONS or number in _BROKEN


def _prepare(connection: Any, _: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SET innodb_lock_wait_timeout = {LOCK_SECONDS}")
        # No other engine has transactions, whatever the server makes tables in by itself.
        cursor.execute("SET default_storage_engine = InnoDB")
