"""The records that a run leaves behind, and the batch that carries them.

A *record* is what a hook hands over: one point of a metric, one param, one file. The agent appends records to a journal
(:mod:`looptap.journal`); the sender reads the journal and makes :class:`Batch` es of it; the collector stores a batch
completely or not at all.

Every record takes one number of its journal's sequence, in the order of emission; a :class:`Points` frame with three
values takes three. So a gap in the sequence is a loss that can be counted, and for each journal, always::

    emitted = stored + in journal + dropped (by reason)

Arrays inside a batch are little-endian and travel as bytes, so they reach a chunk without becoming Python objects.
This module imports the standard library and msgspec only; agent and collector both stand on it.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

#: Context of a series: which rank, which param group, … Empty for most. Keys and values are short text.
Context: TypeAlias = dict[str, str]


class RunStarted(msgspec.Struct, tag="run", frozen=True, omit_defaults=True):
    """The identity of a run, known at its start. The first record of every journal; the same run may start twice (a fork).

    Of a job of several processes each starts the run, as ``rank`` of ``world_size``; the identity that counts is that of rank 0.
    """

    run: str
    name: str
    experiment: str
    time_ns: int
    kind: str = "training"
    script: str | None = None
    command: tuple[str, ...] = ()
    working_directory: str | None = None
    host: str | None = None
    user: str | None = None
    pid: int | None = None
    python: str | None = None
    rank: int = 0
    world_size: int = 1


class Environment(msgspec.Struct, tag="environment", frozen=True, omit_defaults=True):
    """Code version and installed packages; gathered beside the run, so it follows the start by some time."""

    time_ns: int
    git_commit: str | None = None
    git_branch: str | None = None
    git_dirty: bool | None = None
    git_remote: str | None = None
    platform: str | None = None
    packages: dict[str, str] = {}
    variables: dict[str, str] = {}


class Points(msgspec.Struct, tag="points", frozen=True, array_like=True, gc=False):
    """Values of several metrics at one step and time. Each value takes one sequence number, in the order of ``values``."""

    step: int
    time_ns: int
    values: dict[str, float]
    context: Context = {}


class Param(msgspec.Struct, tag="param", frozen=True):
    """A setting. ``value`` is None, bool, int, float, str, or a small list or dict of these; a later value supersedes.

    ``source`` says who told it: ``user``, ``argparse``, ``default`` (argparse, not given), ``constant``, ``torch``, …
    """

    key: str
    value: Any
    source: str
    time_ns: int


class Tag(msgspec.Struct, tag="tag", frozen=True):
    key: str
    value: str
    time_ns: int


class File(msgspec.Struct, tag="file", frozen=True, omit_defaults=True):
    """A file that the program wrote (``role`` output) or read (input), not looked into yet. Lives in journals only: the sender
    makes an :class:`Artifact` of it, off the training thread. Of an input only the digest is taken."""

    path: str
    name: str
    time_ns: int
    size_bytes: int
    modified_ns: int
    role: str = "output"
    kind: str | None = None
    step: int | None = None
    description: str | None = None
    #: 0 when it is not known.
    inode: int = 0

    def as_artifact(self, *, digest: str | None = None, missing: str | None = None) -> Artifact:
        """What a store is told of it: the digest of the content that it has, or why it is missing."""
        return Artifact(
            name=self.name,
            time_ns=self.time_ns,
            size_bytes=self.size_bytes,
            digest=digest,
            missing=missing,
            path=self.path,
            role=self.role,
            kind=self.kind,
            step=self.step,
            description=self.description,
        )


class Artifact(msgspec.Struct, tag="artifact", frozen=True, omit_defaults=True):
    """A file by its content, which the store keeps unless it is that of an ``input``. ``digest`` is the SHA-256 in hex, or None
    when the content could not be had: ``missing`` then says why (``deleted``, ``superseded``: overwritten before it was read,
    ``too_large``, …). ``weights`` is the fingerprint of the largest model in it (:mod:`looptap.arrays`), None where there is none
    that can be told."""

    name: str
    time_ns: int
    size_bytes: int
    digest: str | None = None
    missing: str | None = None
    path: str | None = None
    role: str = "output"
    kind: str | None = None
    media_type: str = "application/octet-stream"
    step: int | None = None
    description: str | None = None
    weights: str | None = None


class Dataset(msgspec.Struct, tag="dataset", frozen=True, omit_defaults=True):
    """Data that a run was fed with. A later one of the same name and role supersedes: the fingerprint of many files follows
    when it is known.

    ``fingerprint`` identifies the content as far as ``covers`` says: ``content``, ``sampled content``, ``names, sizes, mtimes`` (of
    files), ``urls``, ``huggingface``, or several of these. Two can be compared when ``algorithm`` and ``covers`` are equal. None
    when there is none yet, or ever: ``missing`` then says why.
    """

    name: str
    time_ns: int
    #: train, validation, test, predict, or what the user calls it.
    role: str = "train"
    #: torch, huggingface, folder, file, array, table, object.
    kind: str | None = None
    class_name: str | None = None
    length: int | None = None
    split: str | None = None
    root: str | None = None
    transform: str | None = None
    fingerprint: str | None = None
    algorithm: str | None = None
    covers: str | None = None
    missing: str | None = None
    #: Columns, features, or shapes and types of its arrays; plain data.
    schema: Any = None
    #: What else is known, by name; plain data.
    details: dict[str, Any] = {}


class Alert(msgspec.Struct, tag="alert", frozen=True, omit_defaults=True):
    """Something is wrong with the training while it runs (``state`` fired), or no longer (recovered). One ``kind`` of one ``key``
    fires and recovers in turn.

    ``severity`` is warning or critical; ``key`` the series that told it, None where it was none; ``value`` what it was then, and
    ``threshold`` what it was compared with.
    """

    kind: str
    severity: str
    state: str
    message: str
    time_ns: int
    key: str | None = None
    value: float | None = None
    threshold: float | None = None
    step: int | None = None
    rank: int = 0


class Example(msgspec.Struct, frozen=True, omit_defaults=True):
    """One call of a model, kept since the program has asked for that: what the model was asked and what it answered, as plain data
    that JSON can say, without secrets, and cut where it is long.

    ``draw`` is the number from 0 to 1 that was drawn for the call (:mod:`looptap.sketches.sampling`).
    """

    draw: float
    time_ns: int
    #: Arguments by the name of the parameter, or by their place where nobody knows it.
    asked: dict[str, Any]
    answer: Any = None
    #: The class of the exception that it raised instead.
    error: str | None = None
    #: Of the predictions in it, those that the program has asked for (``looptap.prediction_id()``).
    ids: tuple[str, ...] = ()


class Window(msgspec.Struct, tag="window", frozen=True, omit_defaults=True):
    """What one process (a replica) answered with a model, at one endpoint, in the ``seconds`` from ``time_ns``. Of two with the
    same model, version, endpoint, split and time from one journal the one with more ``requests`` is the later and counts.

    A run of training has them, too: what an evaluation saw of the model is what serving is compared with (``split`` is then
    train, validation, test, or predict of data that may be any).
    """

    #: What the program calls it; empty for requests that asked no model.
    model: str
    time_ns: int
    seconds: float
    #: What the program calls it, else the digest, else the fingerprint of its weights; None when nobody knows.
    version: str | None = None
    #: SHA-256 of the file that its weights came from, which leads to the run that wrote it; None when nobody knows.
    digest: str | None = None
    #: The fingerprint of its weights, as they were when it was asked first, which leads there, too (:mod:`looptap.arrays`).
    weights: str | None = None
    #: Where it was asked: ``POST /predict``, the template and not the path of a request; empty for calls by the program itself.
    endpoint: str = ""
    split: str | None = None
    requests: int = 0
    #: Requests that went wrong, by class: ``ValueError``, ``HTTP 503``, ``cancelled``, ``disconnected``, …; what is the fault of
    #: the client (``HTTP 404``) is among them.
    errors: dict[str, int] = {}
    #: Requests under way at the same time: the mean over the window, and the most.
    in_flight: float = 0.0
    in_flight_max: int = 0
    #: Seconds, as encoded :class:`looptap.sketches.histogram.Histogram` s, by part: ``total``, ``queue``, ``before``, ``model``,
    #: ``after``, ``first`` (to the first byte), ``between`` (two items of a stream). Those that can be told.
    latency: dict[str, bytes] = {}
    #: Rows asked of the model at once, encoded in the same way.
    batch: bytes | None = None
    #: How often the inputs had which shape: ``float32[*, 3, 224, 224]``. The rows are left out.
    shapes: dict[str, int] = {}
    #: Encoded :class:`looptap.sketches.distribution.Distribution` s by stream: ``class``, ``confidence``, ``value``, ``length``,
    #: and ``name.class`` where there are several outputs.
    predictions: dict[str, bytes] = {}
    #: What came of predictions whose labels became known in this window: ``correct`` (the classes ``yes`` and ``no``) and ``error``
    #: (the label less the prediction), or ``name.correct`` where there are several outputs.
    outcomes: dict[str, bytes] = {}
    #: Of labels that became known, and of features that the program asked for.
    labels: dict[str, bytes] = {}
    features: dict[str, bytes] = {}
    #: Rows that were not looked at, by reason.
    skipped: dict[str, int] = {}
    #: Of the process in this window, by the names of :mod:`looptap.resources`.
    resources: dict[str, float] = {}
    #: Of its calls the few with the least draws, where the program has asked for that.
    examples: tuple[Example, ...] = ()
    #: Of how many windows, as they were told, a store has made this one, and the greatest that each of ``resources`` was in one of
    #: them. Agents tell neither.
    windows: int = 1
    peaks: dict[str, float] = {}


class Note(msgspec.Struct, tag="note", frozen=True):
    """What could not be captured, and why, in one sentence. ``looptap doctor`` and ``looptap show`` print it."""

    topic: str
    message: str
    time_ns: int


class RunEnded(msgspec.Struct, tag="end", frozen=True, omit_defaults=True):
    """``status`` is finished, failed or killed; ``error`` is the exception in text, with its type first. Of a job, each ``rank``
    tells its own end; what that makes of the run is the store's to say."""

    status: str
    time_ns: int
    error: str | None = None
    rank: int = 0


class Cells(msgspec.Struct, tag="cells", frozen=True):
    """Up to ``count`` points follow in cells (:mod:`looptap.journal.cells`), in rows with one of these lists of keys, each in its
    context. Lives in journals only and takes no sequence number."""

    count: int
    rows: tuple[tuple[tuple[str, ...], Context], ...]


class Dropped(msgspec.Struct, tag="dropped", frozen=True):
    """Totals so far of records that this journal lost, by reason. Takes no sequence number: a later one replaces it."""

    totals: dict[str, int]


#: What a journal frame may hold.
JournalRecord: TypeAlias = (
    RunStarted
    | Environment
    | Points
    | Param
    | Tag
    | File
    | Artifact
    | Dataset
    | Alert
    | Window
    | Note
    | RunEnded
    | Dropped
)
#: What a batch may hold beside its series.
BatchRecord: TypeAlias = RunStarted | Environment | Param | Tag | Artifact | Dataset | Alert | Window | Note | RunEnded


class SeriesPoints(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """New points of one series, in order of emission: three arrays of the same length, each item 8 bytes."""

    key: str
    context: Context
    steps: bytes  # int64
    times_ns: bytes  # int64, since the Unix epoch
    values: bytes  # float64; NaN and ±Inf are values like any other

    def __len__(self) -> int:
        return len(self.steps) // 8


class Batch(msgspec.Struct, frozen=True, omit_defaults=True):
    """Records ``first`` … ``next - 1`` of one journal, less those that were lost on the way.

    ``dropped`` are the journal's totals by reason as far as known. ``heartbeat_ns`` is when the agent was last alive.
    A batch with ``first == next`` carries no records: it only tells these two, and a store never refuses it.
    """

    run: str
    journal: str
    first: int
    next: int
    series: tuple[SeriesPoints, ...] = ()
    records: tuple[BatchRecord, ...] = ()
    dropped: dict[str, int] = {}
    heartbeat_ns: int = 0

    def count(self) -> int:
        """How many records this batch carries."""
        return sum(len(points) for points in self.series) + len(self.records)


class Rejected(Exception):
    """The store will never accept this batch; the message says why. Sending it again is pointless.

    ``field`` names the part of the batch that is wrong (``series[3].key``), where it is one part.
    Any other error of a delivery means "not now": the same bytes are tried again later.
    """

    def __init__(self, message: str = "", *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


ALERT_SEVERITIES = ("warning", "critical")
ALERT_STATES = ("fired", "recovered")
#: The kind of an alert of a served model whose predictions have drifted.
DRIFT = "drift"


def drift_key(model: str, version: str, stream: str = "") -> str:
    """The key of such an alert, the same in every process that serves the version; without a stream, what all keys of a version
    begin with."""
    return f"{model}@{version[:12]}.{stream}"


#: ``partial``: of a job of several processes, some are dead or lost, and the others have finished.
RUN_STATUSES = ("running", "finished", "failed", "killed", "lost", "partial")
