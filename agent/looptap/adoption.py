"""Delivers what dead processes left in their journals.

A journal without an owner (nobody holds its lock) is locked, delivered to the store that its owner meant, and removed. When the
process was the run's own and never said that the run is over, that is written into the journal first, as one more record with the
next number: from there on it is delivered, counted and kept from being stored twice like any other. So all of this may be cut
short at any instant and done again by anybody.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from looptap.events import Dropped, JournalRecord, Points, RunEnded
from looptap.journal import folder as folders
from looptap.journal.courier import Courier
from looptap.journal.folder import JournalMeta, Owned, Unusable, read_meta, try_adopt
from looptap.journal.frames import encode
from looptap.journal.reader import JournalReader
from looptap.journal.writer import JournalWriter
from looptap.resources import lack_of_memory
from looptap.serving.recording import forget_left_behind, left_behind
from looptap.sinks import Sink, Unavailable

KILLED = "process ended without saying so"
_SURVEY_BYTES = 8 * 1024


@dataclass
class Adopted:
    """``runs`` are the names of the runs that something was delivered for, ``records`` how many records that were.
    ``kept`` are the journals of dead processes that had to stay, with the reason in one line."""

    runs: list[str] = field(default_factory=list)
    records: int = 0
    kept: dict[Path, str] = field(default_factory=dict)


def deliver_abandoned(root: Path, open_sink: Callable[[str], Sink], to: str | None = None) -> Adopted:
    """Deliver and remove every journal under ``root`` whose owner is dead. ``open_sink`` gets the store's address: ``to``, or the
    one that the owner meant. What was meant for no store (``off``) goes to none.

    Never raises for what is wrong with a journal or a store: what could not be delivered is in :attr:`Adopted.kept`.
    """
    summary = Adopted()
    try:
        found = folders.find_journals(root)
        folders.sweep(root)
    except FileNotFoundError:
        return summary
    except (Unusable, OSError) as error:
        summary.kept[root] = str(error)
        return summary
    opening = _Opening(open_sink)
    for folder in found:
        try:
            _deliver(folder, opening, summary, to)
        except Exception as error:  # noqa: BLE001 - a store may raise anything; the next journal may have another store
            summary.kept[folder] = str(error) or type(error).__name__
    return summary


class _Opening:
    """Of a store that cannot be used now, only the first journal waits for the answer."""

    def __init__(self, open_sink: Callable[[str], Sink]) -> None:
        self._open_sink = open_sink
        self._unavailable: dict[str, str] = {}

    @contextmanager
    def sink(self, store: str) -> Iterator[Sink]:
        if store in self._unavailable:
            raise Unavailable(self._unavailable[store])
        try:
            with closing(self._open_sink(store)) as sink:
                yield sink
        except Unavailable as error:
            self._unavailable[store] = str(error)
            raise


def _deliver(folder: Path, opening: _Opening, summary: Adopted, to: str | None) -> None:
    owned = try_adopt(folder)
    if owned is None:
        return
    try:
        meta = read_meta(folder)
        if not meta.is_of_this_machine():
            raise Unusable(f"its process ran on {meta.host}, and only there it can be told whether it lives")
        store = meta.store if to is None or meta.store == "off" else to
        with opening.sink(store) as sink:
            held = _deliver_to(sink, owned, meta, summary)
        if held is not None:
            raise Unusable(held)
        owned.remove()
    finally:
        owned.release()


def _deliver_to(sink: Sink, owned: Owned, meta: JournalMeta, summary: Adopted) -> str | None:
    """Returns why the rest has to stay; None when there is no rest."""
    left = _survey(owned.folder, meta)
    reader = JournalReader(owned.folder, journal=meta.journal)
    courier = Courier(meta.run, meta.journal, sink, reader, None)
    end = max(left.end, courier.position)
    has_said_so = left.has_ended or courier.ended
    if end > 0 and left.held is None and not has_said_so:
        _write_rest(owned, meta, end, left)
    try:
        while courier.deliver_next():
            pass
    finally:
        if courier.stored:
            summary.records += courier.stored
            if meta.run_name not in summary.runs:
                summary.runs.append(meta.run_name)
    return reader.held


@dataclass(frozen=True)
class _Left:
    """What a journal still holds. ``end`` is one past its last record, ``held`` why it could not be read to the end."""

    end: int
    has_ended: bool
    last_ns: int
    held: str | None
    #: The last samples of what tells whether the kernel has killed it.
    samples: dict[str, float]


def _survey(folder: Path, meta: JournalMeta) -> _Left:
    reader = JournalReader(folder, journal=meta.journal)
    has_ended, last_ns = False, meta.created_ns
    samples: dict[str, float] = {}
    while records := reader.read(_SURVEY_BYTES):
        for _, _, record in records:
            has_ended = has_ended or isinstance(record, RunEnded)
            last_ns = max(last_ns, _time_ns(record))
            if isinstance(record, Points) and lack_of_memory.KILLS in record.values:
                samples = record.values
        time.sleep(0)  # a training may be running in this process
    return _Left(reader.next, has_ended, last_ns, reader.held, samples)


def _time_ns(record: JournalRecord) -> int:
    return 0 if isinstance(record, Dropped) else record.time_ns


def _write_rest(owned: Owned, meta: JournalMeta, position: int, left: _Left) -> None:
    """What it had counted and not written, and that it is over. Raises Unusable when the disk does not take it; then nothing of it
    counts as written."""
    windows = left_behind(owned.folder)
    if not windows and not meta.is_primary:
        return
    # A second descriptor of the same open file: closing it with the writer leaves the lock with us.
    writer = JournalWriter(meta.journal, Owned(owned.folder, os.dup(owned.lock)), first=position)
    for window in windows:
        writer.append(encode(window))
    why = lack_of_memory.found(meta.cgroups, left.samples) if meta.boot == folders.boot_id() else None
    error = KILLED if why is None else f"{KILLED}: {why}"
    if meta.is_primary:
        writer.append(encode(RunEnded("killed", left.last_ns, error, meta.rank)))
    problem = writer.problem
    writer.close()
    if problem is not None:
        raise Unusable(problem)
    # Cut short before this, the same windows are written again, and count once.
    forget_left_behind(owned.folder)
