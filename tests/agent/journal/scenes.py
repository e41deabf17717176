"""What the journal's tests are made of: small journals on real disks, and a store that is easy to look into."""

from __future__ import annotations

import struct
import time
from collections import Counter
from pathlib import Path
from typing import Any

from looptap.events import Artifact, Batch, BatchRecord, Context, File, JournalRecord, Points, Rejected, RunStarted
from looptap.journal import cells
from looptap.journal.folder import JournalMeta, segments
from looptap.journal.frames import encode
from looptap.journal.reader import JournalReader
from looptap.journal.writer import JournalWriter
from looptap.sender import Sender

RUN = "run-1"


def meta(store: str = "off", run: str = RUN, is_primary: bool = True) -> JournalMeta:
    return JournalMeta.of_this_process(run, "calm-otter-12", store, is_primary)


def start(run: str = RUN) -> bytes:
    return encode(RunStarted(run, "calm-otter-12", "default", time.time_ns()))


def point(step: int, **values: float) -> bytes:
    """One point of ``loss`` whose value tells its step, unless values are given."""
    return encode(Points(step, 1_000_000 + step, values or {"loss": step / 7}))


NO_CONTEXT: Context = {}


def put(writer: JournalWriter, step: int, context: Context = NO_CONTEXT, **values: float) -> None:
    """Points as the recorder hands them over; of ``loss``, whose value tells its step, unless values are given."""
    values = values or {"loss": step / 7}
    done = writer.put(values, step, 1_000_000 + step, context)
    if done < len(values):
        writer.append_points(dict(list(values.items())[done:]), step, 1_000_000 + step, context)


def new_writer(root: Path, *, run: str = RUN, store: str = "off", **limits: Any) -> JournalWriter:
    """A journal on disk with the start of its run in it."""
    writer = JournalWriter.create(root, meta(store, run), **limits)
    assert writer.problem is None
    writer.append(start(run))
    return writer


def folder_of(writer: JournalWriter) -> Path:
    assert writer.folder is not None
    return writer.folder


def contents(folder: Path, journal: str | None = None, first: int = 0) -> list[tuple[int, int, JournalRecord]]:
    """Everything that a reader finds."""
    reader = JournalReader(folder, start=first, journal=journal)
    found = []
    while records := reader.read(2**20):
        found += records
    return found


def steps(folder: Path) -> list[int]:
    return [record.step for _, _, record in contents(folder) if isinstance(record, Points)]


def in_cells(writer: JournalWriter, count: int, **values: float) -> None:
    """Steps 0 … count - 1; asserts that they really went into cells."""
    for step in range(count):
        put(writer, step, NO_CONTEXT, **values)
    assert writer.put is not cells.no_cell


def point_bytes(folder: Path) -> list[tuple[int, int, str, bytes, dict[str, str]]]:
    """(step, time, key, the value's bytes, context): NaN is equal to itself here."""
    return [
        (record.step, record.time_ns, key, struct.pack("<d", value), record.context)
        for _, _, record in contents(folder)
        if isinstance(record, Points)
        for key, value in record.values.items()
    ]


def numbers(folder: Path) -> list[int]:
    return [number for seq, takes, _ in contents(folder) for number in range(seq, seq + takes)]


def only_segment(folder: Path) -> Path:
    (segment,) = segments(folder)
    return folder / segment.name


class Store:
    """A sink that keeps all in memory, with the same ledger rules as a real backend."""

    def __init__(self) -> None:
        self.next: Counter[str] = Counter()
        self.stored: Counter[str] = Counter()
        self.dropped: dict[str, dict[str, int]] = {}
        self.points: list[tuple[str, int, float]] = []
        self.records: list[BatchRecord] = []
        self.heartbeats = 0

    def position(self, journal: str) -> int:
        return self.next[journal]

    def deliver(self, batch: Batch) -> None:
        totals = self.dropped.setdefault(batch.journal, {})
        for reason, total in batch.dropped.items():
            totals[reason] = max(total, totals.get(reason, 0))
        if batch.next <= self.next[batch.journal]:
            self.heartbeats += batch.next == batch.first
            return
        if batch.first < self.next[batch.journal]:
            raise Rejected("overlap")
        for series in batch.series:
            triples = zip(memoryview(series.steps).cast("q"), memoryview(series.values).cast("d"), strict=True)
            self.points += [(series.key, step, value) for step, value in triples]
        self.records += batch.records
        self.stored[batch.journal] += batch.count()
        self.next[batch.journal] = batch.next

    def keep_file(self, file: File) -> Artifact:
        return Artifact(
            name=file.name, time_ns=file.time_ns, size_bytes=file.size_bytes, missing="test", path=file.path
        )

    def close(self) -> None:
        return None

    def steps(self) -> list[int]:
        return [step for _, step, _ in self.points]


def assert_conserved(emitted: int, store: Store, journal: str, in_journal: int = 0) -> None:
    """emitted = stored + in journal + dropped by reason; nothing is left to explain."""
    dropped = store.dropped.get(journal, {})
    assert emitted == store.stored[journal] + in_journal + sum(dropped.values()), (store.stored, in_journal, dropped)


def send(writer: JournalWriter, store: Store) -> Sender:
    """A sender that is under way, and looks often."""
    sender = Sender(writer, RUN, lambda: store, interval=0.01)
    sender.start()
    return sender
