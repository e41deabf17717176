"""What a backend answers with."""

from __future__ import annotations

import hashlib

import msgspec
import numpy as np
import numpy.typing as npt

from looptap.events import Alert, Artifact, Context, Dataset, Environment, Note, RunStarted, Window


class Delivery(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the store knows of one journal. ``next`` is one past the last sequence number it has seen; ``rank`` the process of the
    run's job that it is of. ``status``, ``ended_ns`` and ``error`` are what this process told of its end, None before."""

    journal: str
    run: str
    next: int
    stored: int
    dropped: dict[str, int]
    rank: int = 0
    status: str | None = None
    ended_ns: int | None = None
    error: str | None = None


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


class RunAlert(msgspec.Struct, frozen=True):
    """A run raised an alert, or took one back."""

    run: str
    alert: Alert


class AlertCount(msgspec.Struct, frozen=True):
    """How many alerts a run has raised, and how many of them it has not taken back."""

    fired: int = 0
    standing: int = 0


class RunWindow(msgspec.Struct, frozen=True):
    """What one process of a run answered with a model in a window of time. ``journal`` tells the process (a replica)."""

    run: str
    journal: str
    window: Window

    @property
    def id(self) -> str:
        """SHA-256 in hex of what tells it from all others."""
        return window_id(self.journal, self.window)

    @property
    def place(self) -> tuple[int, str]:
        """Where it is among others; see :meth:`looptap_collector.backend.Backend.windows`."""
        return self.window.time_ns, self.id


class WindowQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which windows: every condition that is given must hold.

    Those of serving, or with ``reference`` those of evaluations (which have a split). They began at ``since_ns`` or later, and
    before ``until_ns``. ``before``: only what is behind the window with this ``place``.
    """

    runs: tuple[str, ...] | None = None
    models: tuple[str, ...] | None = None
    versions: tuple[str, ...] | None = None
    reference: bool = False
    since_ns: int | None = None
    until_ns: int | None = None
    before: tuple[int, str] | None = None
    limit: int = 1_000


def window_id(journal: str, window: Window) -> str:
    """See :class:`looptap.events.Window`: of two with the same id the one with more requests counts."""
    names = (journal, window.model, window.version, window.endpoint, window.split, window.time_ns)
    return hashlib.sha256(msgspec.msgpack.encode(names)).hexdigest()


class Served(msgspec.Struct, frozen=True):
    """A version of a model that was asked: how often, in how many ``windows``, from when to when they began."""

    model: str
    version: str | None
    requests: int
    errors: int
    windows: int
    first_ns: int
    last_ns: int


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


class MergedWindows(msgspec.Struct, frozen=True):
    """``merged`` windows of serving became ``made`` longer ones; ``damaged`` ones could not be read and stay as they are.
    ``is_complete`` is false when the time was up before all was done."""

    merged: int = 0
    made: int = 0
    damaged: int = 0
    is_complete: bool = True

    def plus(self, other: MergedWindows) -> MergedWindows:
        """Both together."""
        return MergedWindows(
            self.merged + other.merged,
            self.made + other.made,
            self.damaged + other.damaged,
            self.is_complete and other.is_complete,
        )


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
