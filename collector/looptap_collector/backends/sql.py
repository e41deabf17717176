"""What every store in SQL has in common: transactions, their errors, and all methods of a backend.

An engine subclasses :class:`SqlBackend` and says how to connect, which errors are worth another try, and what a
server's words for "not now" are.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from looptap.events import Artifact, Context
from looptap_collector.backend import (
    AlertCount,
    Arrival,
    Backend,
    Compaction,
    DatasetUse,
    Delivery,
    Edge,
    ExperimentRow,
    History,
    MergedWindows,
    Outcome,
    ParamRow,
    Rejected,
    RunAlert,
    RunPage,
    RunQuery,
    RunRow,
    RunWindow,
    SeriesRow,
    Served,
    TokenRow,
    TooExpensive,
    Unavailable,
    WindowQuery,
)
from looptap_collector.backends import (
    alerts,
    compacting,
    data,
    deleting,
    histories,
    lengthening,
    reading,
    searching,
    tables,
    tokens,
    windows,
)
from looptap_collector.backends.appending import merge_small_chunks
from looptap_collector.backends.schema import HEAD, bring_to_head, revision
from looptap_collector.backends.standing import lock_runs
from looptap_collector.backends.writing import write_arrivals

T = TypeVar("T")
#: Seconds before the second try, doubled for each further one.
_FIRST_PAUSE = 0.02
#: A filter is a stranger's: no statement that is made of one may take longer.
SEARCH_SECONDS = 5.0


class SqlBackend(Backend):
    """See :class:`looptap_collector.backend.Store`.

    Not to be used across a fork: open another one in the child.
    """

    #: A change is tried so often when it collides with that of another collector.
    tries = 1
    #: The revision of the tables when the store was opened, before they were upgraded; None when there were none.
    found_at: str | None = None

    def __init__(self, engine: Engine, place: str) -> None:
        """``place`` is what error messages call the store; it holds no password."""
        self._engine = engine
        self._writing = engine
        # What is read in several statements is of one moment; a transaction of SQLite always is.
        of_one_moment = {} if engine.dialect.name == "sqlite" else {"isolation_level": "REPEATABLE READ"}
        self._reading = engine.execution_options(**of_one_moment)
        self.place = place
        self._driver: Any = engine.dialect.loaded_dbapi
        # COPY goes past SQLAlchemy, so the driver's own errors are among them.
        self._errors = (DBAPIError, PoolTimeout, self._driver.Error)

    # Changes

    def write(self, arrivals: Sequence[Arrival]) -> list[Outcome | Rejected]:
        try:
            return self.change(lambda connection: write_arrivals(connection, arrivals))
        except Rejected as refusal:
            if len(arrivals) == 1:
                return [refusal]
            # One of them spoils the transaction for all; alone, it spoils its own only.
            return [self.write([arrival])[0] for arrival in arrivals]

    def set_status(self, run: str, status: str, *, ended_ns: int | None, error: str | None = None) -> None:
        columns = tables.run.c
        changed = (
            update(tables.run)
            .where(columns.run == run, columns.told_end == 0)
            .values(status=status, ended_ns=ended_ns, error=error)
        )

        def change(connection: Connection) -> None:
            lock_runs(connection, [run])
            connection.execute(changed)
            merge_small_chunks(connection, [run])

        self.change(change)

    def delete_run(self, run: str) -> bool:
        return self.change(lambda connection: deleting.delete_run(connection, run))

    def compact(self, *, run: str | None = None, at_least: int = 1, within_s: float | None = None) -> Compaction:
        return compacting.compact(self, run, at_least, within_s)

    def merge_windows(self, *, run: str | None = None, within_s: float | None = None) -> MergedWindows:
        return lengthening.merge_windows(self, run, within_s)

    def add_token(self, token: TokenRow) -> None:
        self.change(lambda connection: tokens.add(connection, token))

    def revoke_token(self, id: str, at_ns: int) -> bool:
        return self.change(lambda connection: tokens.revoke(connection, id, at_ns))

    def token_used(self, id: str, at_ns: int) -> None:
        self.change(lambda connection: tokens.used(connection, id, at_ns))

    # Reading

    def tokens(self) -> Sequence[TokenRow]:
        with self.snapshot() as connection:
            return tokens.all_tokens(connection)

    def delivery(self, run: str) -> Sequence[Delivery]:
        with self.snapshot() as connection:
            return reading.deliveries(connection, run)

    def position(self, journal: str) -> int:
        with self.snapshot() as connection:
            return reading.position(connection, journal)

    def runs(
        self, *, experiment: str | None = None, status: str | None = None, limit: int | None = None
    ) -> Sequence[RunRow]:
        with self.snapshot() as connection:
            return reading.runs(connection, experiment, status, limit)

    def run(self, run: str) -> RunRow | None:
        with self.snapshot() as connection:
            return reading.run(connection, run)

    def search(self, query: RunQuery) -> RunPage:
        with self.snapshot() as connection, self._bounded(connection, SEARCH_SECONDS):
            return searching.search(connection, query)

    def params(self, run: str, *, revisions: bool = False) -> Sequence[ParamRow]:
        with self.snapshot() as connection:
            return reading.params(connection, run, revisions)

    def tags(self, run: str) -> dict[str, str]:
        with self.snapshot() as connection:
            return reading.tags(connection, run)

    def series(self, runs: Sequence[str]) -> Sequence[SeriesRow]:
        with self.snapshot() as connection:
            return reading.series(connection, runs)

    def history(self, run: str, key: str, context: Context, *, steps: tuple[int, int] | None = None) -> History:
        with self.snapshot() as connection:
            return histories.history(connection, run, key, context, steps)

    def chart(
        self, run: str, key: str, context: Context, *, points: int, steps: tuple[int, int] | None = None
    ) -> History:
        with self.snapshot() as connection:
            return histories.chart(connection, run, key, context, points, steps)

    def artifacts(self, run: str) -> Sequence[Artifact]:
        with self.snapshot() as connection:
            return reading.artifacts(connection, run)

    def edges(
        self,
        *,
        runs: Sequence[str] | None = None,
        digests: Sequence[str] | None = None,
        role: str | None = None,
        kind: str | None = None,
        before: int | None = None,
        limit: int = 1_000,
    ) -> Sequence[Edge]:
        with self.snapshot() as connection:
            return reading.edges(connection, runs, digests, role, kind, before, limit)

    def datasets(
        self,
        *,
        runs: Sequence[str] | None = None,
        name: str | None = None,
        role: str | None = None,
        fingerprints: Sequence[str] | None = None,
        limit: int = 1_000,
    ) -> Sequence[DatasetUse]:
        with self.snapshot() as connection:
            return data.uses(connection, runs, name, role, fingerprints, limit)

    def alerts(
        self, *, runs: Sequence[str] | None = None, kind: str | None = None, limit: int = 1_000
    ) -> Sequence[RunAlert]:
        with self.snapshot() as connection:
            return alerts.of_runs(connection, runs, kind, limit)

    def alert_counts(self, runs: Sequence[str]) -> dict[str, AlertCount]:
        with self.snapshot() as connection:
            return alerts.counts(connection, runs)

    def windows(self, query: WindowQuery) -> Sequence[RunWindow]:
        with self.snapshot() as connection:
            return windows.found(connection, query)

    def served(
        self, *, since_ns: int | None = None, until_ns: int | None = None, runs: Sequence[str] | None = None
    ) -> Sequence[Served]:
        with self.snapshot() as connection:
            return windows.served(connection, since_ns, until_ns, runs)

    def experiments(self) -> Sequence[ExperimentRow]:
        with self.snapshot() as connection:
            return reading.experiments(connection)

    def current_params(self, runs: Sequence[str]) -> dict[str, dict[str, object]]:
        with self.snapshot() as connection:
            return reading.current_params(connection, runs)

    def current_tags(self, runs: Sequence[str]) -> dict[str, dict[str, str]]:
        with self.snapshot() as connection:
            return reading.current_tags(connection, runs)

    def referenced(self) -> Iterator[str]:
        return self._digests()

    def written(self) -> Iterator[str]:
        """As :meth:`referenced`, without what runs only read: of that, no content is kept."""
        return self._digests(besides="input")

    def _digests(self, besides: str | None = None) -> Iterator[str]:
        after = ""
        while True:
            with self.snapshot() as connection:
                some = reading.digests(connection, after, besides)
            if not some:
                return
            yield from some
            after = some[-1]

    def close(self) -> None:
        self._engine.dispose()

    # Care

    def faults(self) -> list[str]:
        """What the engine itself finds wrong with its files, one line each. A server looks after them by itself."""
        return []

    def shrink(self) -> int:
        """Give space that is no longer needed back to the file system; how many bytes that was. A server does so by itself.
        Nobody can write meanwhile. Raises :class:`Unavailable`."""
        return 0

    # Transactions

    def change(self, work: Callable[[Connection], T]) -> T:
        """Do the work in one transaction, which others see completely or not at all.

        Raises :class:`Unavailable`, and :class:`Rejected` when the engine says that a value does not fit its column.
        """
        for attempt in range(self.tries):
            if attempt:
                # So that those who collided do not meet again.
                time.sleep(random.uniform(0.5, 1.0) * _FIRST_PAUSE * 2**attempt)
            try:
                with self._writing.begin() as connection:
                    self._before_change()
                    return work(connection)
            except self._errors as error:
                told = _cause(error)
                if isinstance(told, self._driver.DataError):
                    raise Rejected(f"the store cannot hold this: {_in_one_line(told)}") from error
                if attempt + 1 == self.tries or not self._is_passing(told):
                    raise Unavailable(f"{self.place}: {_in_one_line(told)}") from error
        raise AssertionError("unreachable")

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """A transaction that reads the store as it is at one moment, whatever others write. Raises :class:`Unavailable`."""
        try:
            with self._reading.begin() as connection:
                yield connection
        except self._errors as error:
            told = _cause(error)
            if self._took_too_long(told):
                raise TooExpensive("the search took too long and was given up; a narrower filter may do") from error
            raise Unavailable(f"{self.place}: {_in_one_line(told)}") from error

    def _make_tables(self) -> None:
        """Create or upgrade them where that is needed. Raises :class:`UnusableStore`."""
        with self.snapshot() as connection:
            self.found_at = revision(connection)
        if self.found_at != HEAD:
            self.change(self._bring_to_head)

    def _bring_to_head(self, connection: Connection) -> None:
        bring_to_head(connection, self.place)

    def _before_change(self) -> None:
        """What an engine makes sure of inside each transaction that changes something."""

    @contextmanager
    def _bounded(self, connection: Connection, seconds: float) -> Iterator[None]:
        """The engine itself ends a statement in here that takes longer; :meth:`_took_too_long` knows its words for that."""
        yield

    def _took_too_long(self, error: BaseException) -> bool:
        return False

    def _is_passing(self, error: BaseException) -> bool:
        """The same transaction may succeed when it is tried again at once. ``error`` is the driver's own."""
        return False


def engine_of_server(url: URL, arguments: dict[str, Any]) -> Engine:
    """``arguments`` are the driver's, as far as the address does not say otherwise."""
    return create_engine(
        url,
        isolation_level="READ COMMITTED",
        pool_pre_ping=True,
        pool_timeout=10,
        hide_parameters=True,
        connect_args=arguments | dict(url.query),
    )


def place_of(url: URL) -> str:
    """What may be shown of an address: no user, no password, no options."""
    return str(URL.create(url.drivername, host=url.host, port=url.port, database=url.database))


def _cause(error: Exception) -> BaseException:
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error


def _in_one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
