"""What becomes of each batch of a group: decided in memory from how its runs and ledgers stand, before anything is
written. An accepted batch changes how they stand for the next one. Every backend decides by this, whatever it keeps rows in.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable

import msgspec

from looptap.events import Artifact, Batch, Dataset, Environment, Param, RunEnded, RunStarted
from looptap_collector.backend import Arrival, Conflict, NotYours, Outcome, Rejected

_DROP_REASONS = 256


class RunState(msgspec.Struct):
    """The columns of a run that change while it goes on. ``started`` is set for one that begins in this group."""

    run: str
    owner: str | None
    status: str = "running"
    ended_ns: int | None = None
    heartbeat_ns: int | None = None
    error: str | None = None
    told_end: int = 0
    started: RunStarted | None = None
    environment: Environment | None = None
    is_changed: bool = False

    def beat(self, heartbeat_ns: int) -> None:
        """The latest sign of life counts, in whatever order they arrive."""
        if not heartbeat_ns:
            return
        if self.heartbeat_ns is None or heartbeat_ns > self.heartbeat_ns:
            self.heartbeat_ns, self.is_changed = heartbeat_ns, True
        if self.status == "lost" and not self.told_end and self.ended_ns is not None and self.ended_ns < heartbeat_ns:
            # It was given up too early: a machine that slept, a disk that was away.
            self.status, self.ended_ns, self.error, self.is_changed = "running", None, None, True

    def end(self, ended: RunEnded) -> None:
        self.status, self.ended_ns, self.error = ended.status, ended.time_ns, ended.error
        self.told_end, self.is_changed = 1, True


class LedgerState(msgspec.Struct):
    """The row of a journal. ``owner`` is that of its run."""

    journal: str
    run: str
    owner: str | None
    next: int = 0
    stored: int = 0
    dropped: dict[str, int] = {}
    first: int | None = None
    digest: str | None = None
    is_changed: bool = False

    def drop(self, told: dict[str, int]) -> None:
        """Totals only ever grow, so an old copy of a batch changes nothing."""
        for reason, total in told.items():
            if total > self.dropped.get(reason, -1):
                self.dropped[reason] = total
                self.is_changed = True


class Standing(msgspec.Struct):
    """Runs by id and ledgers by journal, as far as a group of batches is concerned."""

    runs: dict[str, RunState] = {}
    ledgers: dict[str, LedgerState] = {}

    def copy_for(self, arrivals: Iterable[Arrival]) -> Standing:
        """What these batches are about, to be judged by without a change to this one."""
        batches = [arrival.batch for arrival in arrivals]
        runs = {batch.run: copy.copy(self.runs[batch.run]) for batch in batches if batch.run in self.runs}
        entries = [self.ledgers[batch.journal] for batch in batches if batch.journal in self.ledgers]
        ledgers = {entry.journal: msgspec.structs.replace(entry, dropped=dict(entry.dropped)) for entry in entries}
        return Standing(runs, ledgers)

    def judge(self, arrival: Arrival) -> Outcome:
        """``STORED`` means that its records are to be written. Raises :class:`Rejected`; nothing has changed then."""
        batch, owner = arrival.batch, arrival.owner
        run, entry = self.runs.get(batch.run), self.ledgers.get(batch.journal)
        if owner is not None and run is not None and run.owner != owner:
            raise NotYours(f"run {batch.run!r} belongs to another token", field="run")
        if entry is not None and entry.run != batch.run:
            if owner is not None and entry.owner != owner:
                raise NotYours(f"journal {batch.journal!r} belongs to another token", field="journal")
            raise Rejected(
                f"journal {batch.journal!r} belongs to run {entry.run!r}, not to {batch.run!r}", field="journal"
            )
        _few_reasons(batch, entry)
        position = 0 if entry is None else entry.next
        if batch.next <= position:
            if entry is not None:
                _no_contradiction(batch, entry)
                entry.drop(batch.dropped)
            if run is not None:
                run.beat(batch.heartbeat_ns)
            return Outcome.DUPLICATE
        if batch.first < position:
            raise Rejected(
                f"records {batch.first} to {batch.next - 1} of journal {batch.journal!r} overlap what is stored "
                f"(up to {position - 1})",
                field="first",
            )
        _starts_itself(batch)
        self._advance(batch, owner, run or _begun(batch, owner), entry)
        return Outcome.STORED

    def _advance(self, batch: Batch, owner: str | None, run: RunState, entry: LedgerState | None) -> None:
        if run.started is not None:
            self.runs.setdefault(run.run, run)
        if entry is None:
            entry = self.ledgers[batch.journal] = LedgerState(batch.journal, batch.run, run.owner, dropped={})
        entry.first, entry.next, entry.digest = batch.first, batch.next, digest_of(batch)
        entry.stored += batch.count()
        entry.is_changed = True
        entry.drop(batch.dropped)
        for record in batch.records:
            if isinstance(record, RunEnded):
                run.end(record)
            elif isinstance(record, Environment):
                run.environment = record
        run.beat(batch.heartbeat_ns)


def digest_of(batch: Batch) -> str:
    """SHA-256 of the records, the same for every copy of a batch."""
    digest = hashlib.sha256()
    for points in batch.series:
        digest.update(msgspec.msgpack.encode((points.key, points.context, len(points)), order="sorted"))
        for column in (points.steps, points.times_ns, points.values):
            digest.update(column)
    for record in batch.records:
        if isinstance(record, Param):
            # MessagePack has no integer beyond 64 bits.
            told: object = (record.key, json.dumps(record.value), record.source, record.time_ns)
        elif isinstance(record, Dataset):
            told = json.dumps(msgspec.structs.asdict(record))
        elif isinstance(record, Artifact):
            # What the file holds is looked up again for every try, and may have changed or gone.
            told = (record.name, record.time_ns, record.role, record.path, record.step)
        else:
            told = record
        digest.update(msgspec.msgpack.encode(told, order="sorted"))
    return digest.hexdigest()


def _no_contradiction(batch: Batch, entry: LedgerState) -> None:
    is_last = batch.first < batch.next and (batch.first, batch.next) == (entry.first, entry.next)
    if is_last and entry.digest is not None and digest_of(batch) != entry.digest:
        raise Conflict(
            f"records {batch.first} to {batch.next - 1} of journal {batch.journal!r} are stored with other content",
            field="first",
        )


def _few_reasons(batch: Batch, entry: LedgerState | None) -> None:
    """One row holds them all, for ever: batch after batch of new ones must not make it grow."""
    if entry is not None and len(entry.dropped.keys() | batch.dropped.keys()) > _DROP_REASONS:
        raise Rejected(f"journal {batch.journal!r} has more than {_DROP_REASONS} reasons of drops", field="dropped")


def _begun(batch: Batch, owner: str | None) -> RunState:
    """The state of a run that begins with this batch."""
    for record in batch.records:
        if isinstance(record, RunStarted):
            return RunState(batch.run, owner, started=record)
    raise Rejected(f"run {batch.run!r} never started", field="run")


def _starts_itself(batch: Batch) -> None:
    for number, record in enumerate(batch.records):
        if isinstance(record, RunStarted) and record.run != batch.run:
            raise Rejected(
                f"a batch of run {batch.run!r} cannot start run {record.run!r}", field=f"records[{number}].run"
            )
