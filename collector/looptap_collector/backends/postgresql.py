"""A store in a PostgreSQL database (12 or later), for several collectors at once.

A transaction first locks the rows of the runs that it writes to, in order of their ids; so two collectors write to one
run one after the other, and to different runs at once. Where two collide after all, or the connection breaks, the whole
transaction is tried again; the ledger tells if the first try had come through. See decision 0013.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import URL, Connection, event, func, select

from looptap_collector.backends.sql import SqlBackend, engine_of_server, place_of

#: Of the advisory lock that a collector holds while it makes or upgrades the tables.
_SCHEMA_LOCK = 0x6C6F6F70
#: So long a writer waits for another one that hangs inside a transaction; the server ends that one after a minute.
LOCK_SECONDS = 10
#: serialization failure, deadlock; a row that another collector made at the same moment; a row of a run that was deleted
_COLLISIONS = {"40001", "40P01", "23505", "23503"}
_CANCELED = "57014"
_SHUTDOWNS = {"57P01", "57P02", "57P03"}


class PostgresqlBackend(SqlBackend):
    """See :class:`looptap_collector.backend.Backend`. The database must exist; the tables are made when it is empty.

    Raises :class:`UnusableStore` when the tables are not ours or of a newer version, and :class:`Unavailable` when the
    server cannot be reached or refuses us.
    """

    tries = 6

    def __init__(self, url: URL) -> None:
        engine = engine_of_server(
            url.set(drivername="postgresql+psycopg"),
            {
                "connect_timeout": 10,
                # A server that vanished without a word is noticed in half a minute, not in hours.
                "keepalives_idle": 10,
                "keepalives_interval": 5,
                "keepalives_count": 3,
                "tcp_user_timeout": 30_000,
            },
        )
        super().__init__(engine, place_of(url))
        event.listen(engine, "connect", _prepare)
        try:
            self._make_tables()
        except BaseException:
            self.close()
            raise

    def _bring_to_head(self, connection: Connection) -> None:
        connection.execute(select(func.pg_advisory_xact_lock(_SCHEMA_LOCK)))
        super()._bring_to_head(connection)

    @contextmanager
    def _bounded(self, connection: Connection, seconds: float) -> Iterator[None]:
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {round(seconds * 1000)}")
        yield

    def _took_too_long(self, error: BaseException) -> bool:
        return getattr(error, "sqlstate", None) == _CANCELED

    def _is_passing(self, error: BaseException) -> bool:
        state = getattr(error, "sqlstate", None)
        if state is None:  # the connection broke, or none came about
            return isinstance(error, self._driver.OperationalError)
        return state in _COLLISIONS or state in _SHUTDOWNS or state.startswith("08")


def _prepare(connection: Any, _: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = '{LOCK_SECONDS}s'; SET idle_in_transaction_session_timeout = '60s'")
    connection.commit()
