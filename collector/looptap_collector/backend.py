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
import numpy as np
import numpy.typing as npt

from looptap.events import Artifact, Batch, Context, Dataset, Environment, Note, Rejected, RunStarted

__all__ = [
    "Arrival",
    "Backend",
    "Compaction",
    "Conflict",
    "DatasetUse",
    "Delivery",
    "Edge",
    "ExperimentRow",
    "History",
    "NotYours",
    "Outcome",
    "ParamRow",
    "Rejected",
    "RunPage",
    "RunQuery",
    "RunRow",
    "SeriesRow",
    "Store",
    "TokenRow",
    "TokenStore",
    "TooExpensive",
    "TooManySeries",
    "Unavailable",
    "all_edges",
]


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


class Delivery(msgspec.Struct, frozen=True):
    """What the store knows of one journal. ``next`` is one past the last sequence number it has seen."""

    journal: str
    run: str
    next: int
    stored: int
    dropped: dict[str, int]


class RunRow(msgspec.Struct, frozen=True):
    """A run as the store has it; ``status`` as last told, never guessed."""

    run: str
    name: str
    experiment: str
    kind: str
    status: str
    started_ns: int
    ended_ns: int | None
    heartbeat_ns: int | None
    error: str | None
    identity: RunStarted
    environment: Environment | None
    notes: tuple[Note, ...]


class RunQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs, and in which order. The language of ``filter`` and ``order`` is in ``docs/filters.md``.

    ``order`` are fields, the first one first, each with ``-`` in front for the greatest first; newest first when empty. Runs
    without the value come last either way, equal ones by their id. ``limit`` is from 1 to 1,000; a ``cursor`` is what the page
    before gave as its ``next``. Raises ValueError for another limit.
    """

    filter: str | None = None
    order: tuple[str, ...] = ()
    limit: int = 100
    cursor: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= 1_000:
            raise ValueError(f"a page has 1 to 1,000 runs, not {self.limit}")


class RunPage(msgspec.Struct, frozen=True):
    """``next`` is the cursor of the page behind this one; None when there is none."""

    rows: tuple[RunRow, ...]
    next: str | None


class ExperimentRow(msgspec.Struct, frozen=True):
    """``newest_ns`` is the start of its newest run."""

    name: str
    runs: int
    newest_ns: int


class Edge(msgspec.Struct, frozen=True):
    """A run wrote or read a file. ``id`` grows in the order of arrival."""

    id: int
    run: str
    artifact: Artifact


class DatasetUse(msgspec.Struct, frozen=True):
    """A run was fed with data; ``dataset`` as the run told it last."""

    run: str
    dataset: Dataset


class ParamRow(msgspec.Struct, frozen=True):
    """``revision`` counts from 0; a value equal to the one before makes no new revision."""

    key: str
    value: object
    source: str
    revision: int
    time_ns: int


class SeriesRow(msgspec.Struct, frozen=True):
    """Running summary of one series. ``last`` is the value at the highest step (the latest to arrive among equals), NaN and
    Inf included. ``min`` and ``max`` leave NaN out and are None when every value is NaN."""

    run: str
    key: str
    context: Context
    count: int
    nan_count: int
    last: float
    min: float | None
    max: float | None
    first_step: int
    last_step: int
    last_time_ns: int


class History(msgspec.Struct, frozen=True):
    """Points of one series in order of step (then of arrival). Three arrays of one length."""

    steps: npt.NDArray[np.int64]
    times_ns: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]


class Compaction(msgspec.Struct, frozen=True):
    """What a compaction did, in numbers: ``merged`` chunks (of ``points`` points) became ``made`` long ones, so many
    ``outlines`` were added, in so many ``series``. ``damaged`` chunks could not be read and stay as they are.
    ``is_complete`` is false when its time was up before all was done."""

    series: int = 0
    merged: int = 0
    made: int = 0
    points: int = 0
    outlines: int = 0
    damaged: int = 0
    is_complete: bool = True

    @property
    def has_changed(self) -> bool:
        return bool(self.made or self.outlines)

    def plus(self, other: Compaction) -> Compaction:
        """Both together."""
        counts = {name: getattr(self, name) + getattr(other, name) for name in self.__struct_fields__[:-1]}
        return Compaction(**counts, is_complete=self.is_complete and other.is_complete)


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
        """Files that runs wrote or read, the latest to arrive first. Every condition that is given must hold; ``before`` an id."""

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

    def close(self) -> None:
        """Nothing is called after it."""
        return None


def all_edges(backend: Backend, runs: Sequence[str] | None = None) -> Iterator[Edge]:
    """Those of these runs or of all, the latest to arrive first."""
    before: int | None = None
    while some := backend.edges(runs=runs, before=before):
        yield from some
        before = some[-1].id


class TokenRow(msgspec.Struct, frozen=True):
    """Who may ask a collector. ``hash`` is the SHA-256 of the token in hex; the token itself is nowhere."""

    id: str
    name: str
    scope: str
    hash: str
    created_ns: int
    expires_ns: int | None = None
    revoked_ns: int | None = None
    last_used_ns: int | None = None


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
