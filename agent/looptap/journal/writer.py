"""Appends records to a journal. A record is safe from the death of the process when :meth:`JournalWriter.append` returns.

Points whose keys are known are put into cells at the end of the segment (:mod:`looptap.journal.cells`): the path of every step. All
other records are frames: one copy into the mapped end of the file or, where a file system does not allow for that, one unbuffered
write call (:mod:`looptap.journal.segment`). Everything else that can happen (a new segment, a full disk, a write that failed or was
interrupted, a signal handler that records in the middle of an append) goes one slow way: what cannot be written now waits in a
bounded ring in memory, in order, and is tried again in a new segment, at once and then once a second: a file that failed once
is not trusted again. A frame that may or may not have reached the failed file is simply written again: its number tells the
reader that it is the same.

A signal handler or a ``__del__`` that appends while the same thread is inside an append is not written there and then, in the
middle of another frame, but by the outer call right after its own.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path

from looptap.events import Cells, Context, Dropped, Points
from looptap.journal import folder as folders
from looptap.journal.cells import BLOCK_CELLS, CELL_ALIGNMENT, CELL_BYTES, Block, Put, Rows, are_possible, no_cell
from looptap.journal.folder import JournalMeta, Owned, Segment, Unusable
from looptap.journal.frames import MAX_PAYLOAD, checksum_start, encode, is_points, pack
from looptap.journal.ring import Ring, Waiting
from looptap.journal.segment import OpenSegment
from looptap.journal.window import can_map

SEGMENT_BYTES = 8 * 2**20
MAX_BYTES = 512 * 2**20
MIN_FREE = 0.05
#: Beyond the limit, points stop but all other records still have this much room.
RESERVE_BYTES = 8 * 2**20
RETRY_SECONDS = 1.0
#: A block of cells that another record cut shorter than this was not worth its frame. So many times points are written as
#: frames before there is another.
_SHORT_BLOCK = 20
#: How often the sender looks, a millisecond apart, whether another thread has filled the cell that it has taken.
_PATIENCE = 50

# What append finds: it may write at once; somebody on this thread is in the middle of a write; it has to look closer; or points
# are being put into cells at the end of the segment.
_READY, _WRITING, _CAREFUL, _CELLS = 0, 1, 2, 3


class JournalWriter:
    """One per run and process. Safe to use from several threads and from signal handlers."""

    #: One clear line when records are not (all) going to disk, else None.
    problem: str | None

    def __init__(
        self,
        journal: str,
        owned: Owned | None,
        *,
        first: int = 0,
        problem: str | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        max_bytes: int = MAX_BYTES,
        min_free: float = MIN_FREE,
        may_map: bool = True,
    ) -> None:
        """For a folder that is locked already; :meth:`create` makes one. ``first`` is the next sequence number."""
        self.journal = journal
        self.problem = problem
        self.dropped: dict[str, int] = {}
        self._owned = owned
        self._segment_bytes = segment_bytes
        self._max_bytes = max_bytes
        self._min_free = min_free
        self._checksum_start = checksum_start(journal)
        # An RLock, because a signal handler on this thread must get in; the state tells it that it is inside.
        self._lock = threading.RLock()
        self._state = _CAREFUL
        self._next = first
        self._segment: OpenSegment | None = None
        self._may_map = may_map and owned is not None and can_map(owned.folder)
        self._attempt = 0
        self._ring = Ring()
        self._deferred: deque[tuple[bytes | None, int, str]] = deque()
        self._retry_at = 0.0
        self._limit_checked_at = 0.0
        self._over_limit = 0
        self._totals_due = False
        self._closed = False
        #: Puts points into cells; the caller hands over the rest with :meth:`append_points`. Another function for every block.
        self.put: Put = no_cell
        self._block: Block | None = None
        #: The block before, and how many of its cells were taken, until somebody has seen that they are filled.
        self._cut: tuple[Block, int] | None = None
        self._rows = Rows()
        self._frames_due = 0
        self._may_have_cells = self._may_map and are_possible()

    @classmethod
    def create(
        cls,
        root: Path | None,
        meta: JournalMeta,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        max_bytes: int = MAX_BYTES,
        min_free: float = MIN_FREE,
        may_map: bool = True,
    ) -> JournalWriter:
        """A new journal under ``root``. Where there can be none, records are kept in memory only and :attr:`problem` says why.

        ``may_map`` False: by write calls on every file system.
        """
        owned, problem = None, None
        try:
            if root is None:
                raise Unusable("there is no home folder")
            owned = folders.create(root, meta)
        except (Unusable, OSError) as error:
            problem = f"no journal on disk, records are only kept in memory: {_reason(error)}"
        return cls(
            meta.journal,
            owned,
            problem=problem,
            segment_bytes=segment_bytes,
            max_bytes=max_bytes,
            min_free=min_free,
            may_map=may_map,
        )

    @property
    def position(self) -> int:
        """How many records were emitted: one past the last sequence number."""
        with self._lock:
            block = self._block
            return self._next if block is None else block.first + block.taken

    @property
    def folder(self) -> Path | None:
        """None when records are only kept in memory."""
        return self._owned.folder if self._owned is not None else None

    def append(self, payload: bytes, count: int = 1) -> None:
        """Write one encoded record, which takes ``count`` numbers. Never raises for trouble with the disk."""
        with self._lock:
            if self._state in (_WRITING, _CAREFUL) or len(payload) > MAX_PAYLOAD:
                self._append_carefully(payload, count, "")
                return
            self._state = _WRITING
            seq = -1
            try:
                if self._block is not None:
                    self._close_block()
                number = self._next
                # Taken before the write: an interrupt from here on leaves a number that is missing, never one that is used twice.
                self._next = number + count
                seq = number
                self._grown().write(pack(seq, count, payload, self._checksum_start))
                self._state = self._state_for_frames()
            except BaseException as error:
                # Whether the frame is in the file nobody knows; written again under its number, it is there once.
                try:
                    if seq >= 0:
                        self._ring.add(Waiting(seq, count, payload))
                finally:
                    self._state = _CAREFUL if self._block is None else _CELLS
                self._write_failed(error)
                if not isinstance(error, OSError):
                    raise
                return
            if self._deferred:
                self._settle()

    def append_points(self, values: Mapping[str, float], step: int, time_ns: int, context: Context) -> None:
        """Points that :attr:`put` did not take: into a new block of cells, or as a frame. Raises for values that are no numbers;
        then none of them is written."""
        encode(Points(step, time_ns, values, context))  # type: ignore[arg-type]
        with self._lock:
            context = self._rows.known(context)
            rest = self._not_put(values, step, time_ns, context)
            if rest:
                self._end_block()
            if rest and self._state == _READY and self._begin_block(rest, context):
                rest = self._not_put(rest, step, time_ns, context)
            if rest:
                self.append(encode(Points(step, time_ns, rest, context)), len(rest))
            elif self._deferred:
                # A signal handler has recorded something while we were at work on the block.
                self._settle()

    def drop(self, reason: str, count: int = 1) -> None:
        """Count records that cannot be recorded. They take their numbers, so the loss shows where it happened."""
        with self._lock:
            self._append_carefully(None, count, reason)

    def count_lost(self, reason: str, count: int) -> None:
        """Count records that were in the journal and are lost behind it, as those that the store rejects for good."""
        with self._lock:
            self.dropped[reason] = self.dropped.get(reason, 0) + count
            self._totals_due = True
            self._end_block()
            if self._state == _READY:
                self._state = _CAREFUL

    def settle(self) -> None:
        """Try to write what waits in memory and the totals of what was dropped. Called now and then by the sender."""
        with self._lock:
            if self._state == _CAREFUL:
                self._settle(with_totals=True)

    def waiting(self, start: int) -> tuple[int, list[Waiting]]:
        """A position, and what is in memory only from the record ``start`` on, in order.

        Every record before the position is in this list, or in the files by now, or counted as dropped, or lost.
        """
        for _ in range(_PATIENCE):
            with self._lock:
                block, end = self._block, self.position
                waiting = self._ring.from_number(start)
                cut = self._cut
            if (block is None or block.is_filled(end - block.first)) and (cut is None or cut[0].is_filled(cut[1])):
                break
            # Another thread is between taking a cell and filling it, or was interrupted there for good.
            time.sleep(0.001)
        if cut is not None and self._cut is cut:
            self._cut = None
        return end, waiting

    def delivered(self, end: int) -> None:
        """Records before ``end`` are safe in the store: none of them has to be written any more."""
        with self._lock:
            if self._state != _WRITING:
                self._ring.remove_before(end)

    def close(self) -> None:
        """Write what still waits, if the disk lets us, and give the journal up. Records that come later are counted as dropped."""
        with self._lock:
            if self._closed or self._state == _WRITING:
                return
            self._end_block()
            self._retry_at = 0.0
            self._settle(with_totals=True)
            if self._ring:
                self._count_dropped("journal_full" if self._owned else "no_journal", self._ring.clear())
                self._retry_at = 0.0
                self._settle(with_totals=True)
            self._closed = True
            self._state = _CAREFUL
            self._close_segment()
            if self._owned is not None:
                self._owned.release()

    def remove(self) -> None:
        """Everything is in the store: remove the folder. Closes the journal if that has not been done."""
        with self._lock:
            owned = self._owned
            if owned is None:
                return
            if not self._closed:
                self._end_block()
                self._closed = True
                self._state = _CAREFUL
                self._close_segment()
            else:
                taken = folders.try_adopt(owned.folder)
                if taken is None:
                    return
                owned = taken
            with contextlib.suppress(OSError):
                owned.remove()

    def abandon_in_child(self) -> None:
        """After a fork, in the child: the journal stays the parent's. Closes our copies of its files and nothing else.

        The lock may have been held by a thread that does not exist here, so it is not touched.
        """
        self._lock = threading.RLock()
        self._closed = True
        self._state = _CAREFUL
        self.put, self._block, self._cut = no_cell, None, None
        self._ring.clear()
        self._deferred.clear()
        self._close_segment(is_ours=False)
        if self._owned is not None:
            self._owned.release()
            self._owned = None

    # --- the slow way; the lock is held ---------------------------------------------------------------------------------

    def _not_put(self, values: Mapping[str, float], step: int, time_ns: int, context: Context) -> dict[str, float]:
        done = self.put(values, step, time_ns, context)
        return dict(list(values.items())[done:])

    def _append_carefully(self, payload: bytes | None, count: int, reason: str) -> None:
        """An append, or without a payload a drop."""
        self._deferred.append((payload, count, reason))
        if self._state != _WRITING:
            self._settle()

    def _settle(self, *, with_totals: bool = False) -> None:
        """Take in what was deferred, write what waits if it is time to, and find out whether appends may be quick again."""
        try:
            while True:
                self._state = _WRITING
                self._close_block()
                while self._deferred:
                    self._take(*self._deferred.popleft())
                self._write_waiting(with_totals)
                healthy = self._segment is not None and not self._ring and not self._over_limit and not self._closed
                self._state = _READY if healthy and not self._totals_due else _CAREFUL
                if not self._deferred:
                    return
        except BaseException:
            self._state = _CAREFUL if self._block is None else _CELLS
            raise

    def _take(self, payload: bytes | None, count: int, reason: str) -> None:
        seq = self._next
        self._next = seq + count
        if payload is None:
            self._count_dropped(reason, count)
        elif self._closed:
            self._count_dropped("closed", count)
        elif len(payload) > MAX_PAYLOAD:
            self._count_dropped("too_large", count)
        elif self._over_limit and self._is_refused(payload):
            self._count_dropped("journal_full", count)
        else:
            self._ring.add(Waiting(seq, count, payload))
            if gone := self._ring.shorten():
                self._count_dropped("journal_full", gone)

    def _is_refused(self, payload: bytes) -> bool:
        """Beyond the limit points are refused, and beyond the reserve everything."""
        if time.monotonic() >= self._limit_checked_at + RETRY_SECONDS:
            self._check_limit()
        return self._over_limit > RESERVE_BYTES or (self._over_limit > 0 and is_points(payload))

    def _count_dropped(self, reason: str, count: int) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + count
        self._totals_due = True

    def _write_waiting(self, with_totals: bool) -> None:
        """Write the ring, and before it the totals of what is missing, so that a reader knows the reason of a gap before it
        meets the gap. Without a record to follow, totals are only written when asked for: a full journal that refuses every
        point must not grow by what it says about them."""
        has_work = self._ring or self._segment is None or (with_totals and self._totals_due)
        if self._owned is None or self._closed or not has_work:
            return
        # A file that had taken frames and fails is left for a new one at once; a new one that fails at once has to wait. Each
        # turn but the last has written something, so this ends.
        may_go_on = self._segment is not None or time.monotonic() >= self._retry_at
        while may_go_on:
            try:
                self._write_all(with_totals)
                return
            except BaseException as error:
                may_go_on = self._give_up_segment(error)
                if not isinstance(error, OSError):
                    raise

    def _write_all(self, with_totals: bool) -> None:
        if self._totals_due and (self._ring or with_totals):
            self._totals_due = False
            try:
                totals = encode(Dropped(dict(self.dropped)))
                self._write(Waiting(self._ring.first.seq if self._ring else self._next, 0, totals))
            except BaseException:
                self._totals_due = True
                raise
        while self._ring:
            self._write(self._ring.first)
            self._ring.remove_first()
        if self._segment is not None and self.problem is not None and not self._over_limit:
            self.problem = None

    def _write(self, item: Waiting) -> None:
        """Raises OSError unless the whole frame is in the file."""
        if self._segment is not None and self._segment.size >= self._segment_bytes:
            self._close_segment()
        if self._segment is None:
            self._segment = self._open_segment(item.seq)
        self._segment.write(pack(item.seq, item.takes, item.payload, self._checksum_start))

    def _grown(self) -> OpenSegment:
        """The segment that the state says is there; raises OSError when a signal handler has met a failing disk meanwhile."""
        if self._segment is None:
            raise OSError("no segment is open")
        return self._segment

    def _state_for_frames(self) -> int:
        segment = self._segment
        return _READY if segment is not None and segment.size < self._segment_bytes else _CAREFUL

    def _begin_block(self, values: Mapping[str, float], context: Context) -> bool:
        """Open a block of cells at the end of the segment; False when these points had better be a frame."""
        if not self._may_have_cells or len(values) > _SHORT_BLOCK or not self._rows.add(values, context):
            return False
        if self._frames_due:  # the rows are known by now, so that none of them cuts the next block short
            self._frames_due -= 1
            return False
        self._state = _WRITING
        try:
            if self._block is not None:  # a signal handler has opened one while we were looking
                self._state = _CELLS
                return True
            segment = self._grown()
            head = encode(Cells(BLOCK_CELLS, tuple(self._rows.all)))
            frame = pack(self._next, 0, head, self._checksum_start)
            padding = -(segment.size + len(frame)) % CELL_ALIGNMENT
            window = segment.window(len(frame) + padding + BLOCK_CELLS * CELL_BYTES)
            if window is None:
                self._state = _READY
                return False
            segment.write(frame + bytes(padding))
            block = self._block = Block(window, segment.size, self._next, self._checksum_start, self._rows)
            self._state = _CELLS
            self.put = block.put
            return True
        except BaseException:
            # From here on other threads may have taken cells.
            self._state = _CAREFUL if self._block is None else _CELLS
            raise

    def _end_block(self) -> None:
        """No more points in cells, if there is a block."""
        if self._state != _CELLS:
            return
        self._state = _WRITING
        try:
            self._close_block()
            self._state = self._state_for_frames()
        except BaseException:
            self._state = _CAREFUL if self._block is None else _CELLS
            raise

    def _close_block(self) -> None:
        """The next frame begins where the first cell is that nobody has taken. Only while the state is _WRITING: a signal handler
        could open another block behind our back. Interrupted, it can be done again."""
        block = self._block
        if block is None:
            return
        self.put = no_cell
        taken = block.close()
        self._next = block.first + taken
        if self._segment is not None:
            self._segment.size = block.start + taken * CELL_BYTES
        if taken < _SHORT_BLOCK:
            self._frames_due = _SHORT_BLOCK
        self._cut = (block, taken)
        self._block = None

    def _write_failed(self, error: BaseException) -> None:
        self._give_up_segment(error)
        self._settle()

    def _give_up_segment(self, error: BaseException) -> bool:
        """A write into it raised. The next attempt waits if the disk is why and this file did not take a single frame; returns
        whether it took some."""
        segment = self._segment
        self._close_segment()
        if segment is not None and segment.is_empty:
            # Its only frame waits in memory. A disk that is full for days must not collect a file for every attempt.
            with contextlib.suppress(OSError):
                os.unlink(segment.path)
        had_frames = segment is not None and not segment.is_empty
        self._attempt += 1
        if isinstance(error, OSError):
            self._retry_at = 0.0 if had_frames else time.monotonic() + RETRY_SECONDS
            self.problem = f"the journal cannot be written, new records are kept in memory: {_reason(error)}"
        return had_frames

    def _open_segment(self, first: int) -> OpenSegment:
        """Raises OSError. Also the moment to look whether there is room for another segment."""
        assert self._owned is not None
        self._check_limit()
        while True:
            path = self._owned.folder / Segment(first, self._attempt).name
            try:
                return OpenSegment(path, self._may_map, self._segment_bytes)
            except FileExistsError:
                self._attempt += 1
            except BaseException:
                # Its name is not used again: a reader may be in the middle of it.
                self._attempt += 1
                raise

    def _close_segment(self, *, is_ours: bool = True) -> None:
        self._close_block()
        segment, self._segment = self._segment, None
        if segment is not None:
            segment.close(is_ours=is_ours)

    def _check_limit(self) -> None:
        """How many bytes the journal is over what it may take; 0 when there is room.

        A journal whose store keeps up never has more than two segments, and those it may have on any disk: without them a
        nearly full disk would mean that nothing is recorded at all.
        """
        assert self._owned is not None
        self._limit_checked_at = time.monotonic()
        folder = self._owned.folder
        try:
            used = sum(os.stat(folder / segment.name).st_size for segment in folders.segments(folder))
            disk = os.statvfs(folder)
        except OSError:
            return  # a segment went away between list and stat, or the disk is in trouble, which a write will tell
        limit = self._max_bytes
        if disk.f_bavail < self._min_free * disk.f_blocks:
            limit = min(limit, 2 * self._segment_bytes)
        self._over_limit = max(0, used - limit)
        if self._over_limit:
            self.problem = (
                f"the journal in {folder} is full ({used / 2**20:.0f} MiB): new points are dropped and counted"
            )


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error)
