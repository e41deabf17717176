"""What a store must be able to do. Few methods, so that someone will implement them.

A backend keeps what :class:`looptap.events.Batch` carries. There are two kinds of failure: :class:`Rejected` is permanent
(the same batch will never be accepted) and is the answer to one batch; :class:`Unavailable`, or any other error, means
"not now" for the whole call, and the sender tries the same bytes again later.
``tests/collector/backends/contract.py`` proves every backend against the real engine.
"""

from __future__ import annotations

import enum
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

from looptap.events import Artifact, Batch, Context, Rejected
from looptap_collector.rows import (
    AlertCount,
    Compaction,
    DatasetUse,
    Delivery,
    Edge,
    ExperimentRow,
    History,
    MergedWindows,
    ParamRow,
    RunAlert,
    RunPage,
    RunQuery,
    RunRow,
    RunWindow,
    SeriesRow,
    Served,
    TokenRow,
    WindowQuery,
)

__all__ = [
    "AlertCount",
    "Arrival",
    "Backend",
    "Compaction",
    "Conflict",
    "DatasetUse",
    "Delivery",
    "Edge",
    "ExperimentRow",
    "History",
    "MergedWindows",
    "NotYours",
    "Outcome",
    "ParamRow",
    "Rejected",
    "RunAlert",
    "RunPage",
    "RunQuery",
    "RunRow",
    "RunWindow",
    "SeriesRow",
    "Served",
    "Store",
    "TokenRow",
    "TokenStore",
    "TooExpensive",
    "TooManySeries",
    "Unavailable",
    "WindowQuery",
    "all_edges",
    "all_windows",
]


#: So many are looked at in one question; an agent stops long before.
MOST_ALERTS = 10_000
MOST_WINDOWS = 10_000


class Outcome(enum.Enum):
    STORED = "stored"
    DUPLICATE = "duplicate"


class Arrival(msgspec.Struct, frozen=True):
    """A batch as it came in. ``owner`` is the name of the token it came with; None in an embedded store, where
    nobody else is."""

    batch: Batch
    owner: str | None = None


class Conflict(Rejected):
    """The numbers of this batch are stored, with other records."""


class NotYours(Rejected):
    """The run or the journal belongs to another owner."""


class TooManySeries(Rejected):
    """The run has as many series as a run may have; see decision 0015."""


class Unavailable(OSError):
    """The store cannot be used now: locked, out of space, unreachable, … Nothing of the call was stored; the same call
    may succeed later."""


class TooExpensive(Unavailable):
    """The question takes longer than one may. Narrower ones may be asked."""


class Backend(Protocol):
    """Safe to call from several threads; several processes may have the same store open.

    Whoever subclasses this writes the abstract methods. All others are made of these; a backend that can do better by
    itself overrides them.
    """

    @abstractmethod
    def write(self, arrivals: Sequence[Arrival]) -> list[Outcome | Rejected]:
        """Store several batches in one transaction, in order, each with its ledger entry. One answer per batch; a refused
        batch leaves nothing behind and does not harm the others. Any error that is raised: nothing of the call was stored.

        ``DUPLICATE`` when the ledger is already at ``batch.next`` or beyond; :class:`Conflict` when it got there by a batch
        of the same numbers and other records; :class:`NotYours` when the run or the journal was begun by another owner (an
        owner of None may write to all); :class:`Rejected` when the batch overlaps what the ledger has, when its arrays
        disagree in length, or when it is of a run that never started. :mod:`looptap_collector.judging` decides all this
        but for the arrays.
        """

    @abstractmethod
    def delivery(self, run: str) -> Sequence[Delivery]:
        """Sorted by journal."""

    @abstractmethod
    def position(self, journal: str) -> int:
        """One past the last sequence number stored of this journal; 0 for one never seen."""

    @abstractmethod
    def runs(
        self, *, experiment: str | None = None, status: str | None = None, limit: int | None = None
    ) -> Sequence[RunRow]:
        """Newest first, equal ones by id, the greatest first."""

    @abstractmethod
    def params(self, run: str, *, revisions: bool = False) -> Sequence[ParamRow]:
        """Sorted by key; the newest revision of each, or all of them, oldest first."""

    @abstractmethod
    def tags(self, run: str) -> dict[str, str]:
        """Sorted by key."""

    @abstractmethod
    def series(self, runs: Sequence[str]) -> Sequence[SeriesRow]:
        """Summaries only: never touches a chunk. Sorted by run, key, context."""

    @abstractmethod
    def history(self, run: str, key: str, context: Context, *, steps: tuple[int, int] | None = None) -> History:
        """Every point of the series, or those from the first to the last of two ``steps``, both included. Raises KeyError
        when there is no such series."""

    @abstractmethod
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
        """Files that runs wrote or read, the latest to arrive first. Every condition that is given must hold; ``before`` an id.
        ``digests`` are of the content of files, or fingerprints of the weights in them."""

    @abstractmethod
    def datasets(
        self,
        *,
        runs: Sequence[str] | None = None,
        name: str | None = None,
        role: str | None = None,
        fingerprints: Sequence[str] | None = None,
        limit: int = 1_000,
    ) -> Sequence[DatasetUse]:
        """Data that runs were fed with, the latest told first, equal ones by run, role and name. A run has one of each role and
        name: as it was told last. Every condition that is given must hold."""

    @abstractmethod
    def alerts(
        self, *, runs: Sequence[str] | None = None, kind: str | None = None, limit: int = 1_000
    ) -> Sequence[RunAlert]:
        """What runs warned of, the latest first; of the same time by run, and of one run the latest to arrive first. Every
        condition that is given must hold."""

    @abstractmethod
    def windows(self, query: WindowQuery) -> Sequence[RunWindow]:
        """What models answered, the latest first; of the same time by their ids. Of two windows with the same id the one with more
        requests is here, of equal ones the later to arrive.
        """

    @abstractmethod
    def set_status(self, run: str, status: str, *, ended_ns: int | None, error: str | None = None) -> None:
        """For a run that can no longer speak for itself (killed, lost). Ignored if the run ended by its own word."""

    @abstractmethod
    def delete_run(self, run: str) -> bool:
        """The run and everything that hangs off it, its journals' ledger entries included. False when there is none."""

    # What is made of these

    def run(self, run: str) -> RunRow | None:
        """By id."""
        return next((row for row in self.runs() if row.run == run), None)

    def search(self, query: RunQuery) -> RunPage:
        """One page of the runs that a query asks for. Raises :class:`looptap_collector.filters.FilterError` (a ValueError) when
        filter, order or cursor cannot be understood. Runs that are added between two pages shift nothing."""
        from looptap_collector.filters.paging import search

        return search(self, query)

    def chart(
        self, run: str, key: str, context: Context, *, points: int, steps: tuple[int, int] | None = None
    ) -> History:
        """At most ``points`` (7 or more) of what :meth:`history` gives, chosen as :func:`looptap_collector.thinning.thin`
        does: the first and the last, the extremes, and of NaN, +Inf and -Inf one each where there are any. Raises as
        :meth:`history`, and ValueError for fewer points.

        A backend that keeps long series in a shorter form as well may look there, as long as that holds.
        """
        from looptap_collector.thinning import thin

        return thin(self.history(run, key, context, steps=steps), points)

    def artifacts(self, run: str) -> Sequence[Artifact]:
        """In order of emission."""
        return [edge.artifact for edge in all_edges(self, [run])][::-1]

    def experiments(self) -> Sequence[ExperimentRow]:
        """Those that have runs, sorted by name."""
        started: dict[str, list[int]] = {}
        for row in self.runs():
            started.setdefault(row.experiment, []).append(row.started_ns)
        return [ExperimentRow(name, len(times_ns), max(times_ns)) for name, times_ns in sorted(started.items())]

    def current_params(self, runs: Sequence[str]) -> dict[str, dict[str, object]]:
        """Of several runs at once: by run, the newest value of each key."""
        return {run: {row.key: row.value for row in self.params(run)} for run in runs}

    def current_tags(self, runs: Sequence[str]) -> dict[str, dict[str, str]]:
        """Of several runs at once: by run, the value of each tag."""
        return {run: self.tags(run) for run in runs}

    def alert_counts(self, runs: Sequence[str]) -> dict[str, AlertCount]:
        """Of several runs at once: by run, how many alerts there are."""
        from looptap_collector.alerts import counted

        return {run: counted(one.alert for one in self.alerts(runs=[run], limit=MOST_ALERTS)) for run in runs}

    def served(
        self, *, since_ns: int | None = None, until_ns: int | None = None, runs: Sequence[str] | None = None
    ) -> Sequence[Served]:
        """Versions of models that were asked, of these runs or of all, in windows that began at ``since_ns`` or later and before
        ``until_ns``, evaluations left out. Sorted by model and version, the unknown version first."""
        from looptap_collector.windows import served

        of_runs = None if runs is None else tuple(runs)
        return served(all_windows(self, WindowQuery(runs=of_runs, since_ns=since_ns, until_ns=until_ns)))

    def referenced(self) -> Iterator[str]:
        """Digests of the artifacts that some run refers to, each once, in order."""
        digests = {edge.artifact.digest for edge in all_edges(self)}
        return iter(sorted(digest for digest in digests if digest is not None))

    def compact(self, *, run: str | None = None, at_least: int = 1, within_s: float | None = None) -> Compaction:
        """Bring the points of a run, or of all, into the form that is shortest and quickest to read. No point changes, and
        those who read or write meanwhile notice nothing. Twice is the same as once.

        Only series of ``at_least`` so many full chunks are looked at. With ``within_s`` it stops after about so many
        seconds. A backend for which there is nothing to do does nothing.
        """
        return Compaction()

    def merge_windows(self, *, run: str | None = None, within_s: float | None = None) -> MergedWindows:
        """Keep what a run, or any, has served long ago in fewer and longer windows (:mod:`looptap_collector.long_windows`), by the
        clock of this machine. What a report says of a time that is not cut through the middle of one does not change, and those who
        read or write meanwhile notice nothing. Twice is the same as once. Evaluations stay as they are.

        With ``within_s`` it stops after about so many seconds. A backend for which there is nothing to do does nothing.
        """
        return MergedWindows()

    def close(self) -> None:
        """Nothing is called after it."""
        return None


def all_edges(backend: Backend, runs: Sequence[str] | None = None) -> Iterator[Edge]:
    """Those of these runs or of all, the latest to arrive first."""
    before: int | None = None
    while some := backend.edges(runs=runs, before=before):
        yield from some
        before = some[-1].id


def all_windows(backend: Backend, query: WindowQuery) -> Iterator[RunWindow]:
    """However many there are; the limit of the query is how many are looked at together."""
    while some := backend.windows(query):
        yield from some
        query = msgspec.structs.replace(query, before=some[-1].place)


class TokenStore(Protocol):
    """Who may ask a collector. Every backend that is shipped keeps that, too."""

    def tokens(self) -> Sequence[TokenRow]:
        """Oldest first, those revoked and expired included."""

    def add_token(self, token: TokenRow) -> None:
        """Raises ValueError when the id or the hash is taken."""

    def revoke_token(self, id: str, at_ns: int) -> bool:
        """False when there is no such token; one that was revoked before keeps its time."""

    def token_used(self, id: str, at_ns: int) -> None:
        """The latest use counts, in whatever order they are told."""


class Store(Backend, TokenStore, Protocol):
    """What a collector needs: both, and ``place``, what messages call it; that holds no password."""

    place: str
