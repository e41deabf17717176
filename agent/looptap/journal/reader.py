"""Reads a journal, from its beginning or from where the store is, also while its owner writes.

The reader believes a frame only if its CRC is right and its number has not been passed. Where the bytes are damaged it goes on at
the next frame that it can believe; what was between shows as a gap in the numbers. It never deletes what it could not read for
being of a newer version: there it stops, and :attr:`JournalReader.held` says why, so that a looptap that knows the format can go on
from exactly there.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from looptap.events import JournalRecord, Points
from looptap.journal import folder as folders
from looptap.journal.cells import CELL_BYTES, BlockReader, are_possible
from looptap.journal.folder import Cursor, Segment
from looptap.journal.frames import (
    FRAME_MAGIC,
    HEADER_BYTES,
    Frame,
    UnknownFormat,
    bytes_wanted,
    checksum_start,
    decode,
    decode_cells,
    frame_at,
    is_cells,
    is_header,
)

_READ_BYTES = 256 * 1024
#: Beyond every sequence number.
_ENDLESS = 2**63


class Cells(NamedTuple):
    """Filled cells, ``data[payload:end]``, which take the numbers ``seq`` … ``seq + takes - 1``."""

    seq: int
    takes: int
    payload: int
    end: int
    record: Points


class JournalReader:
    """One thread's view of a journal. Opens a segment only while it reads from it, so that it holds no files."""

    #: Why reading stopped for good before the end, in one line; None while it has not.
    held: str | None = None

    def __init__(self, folder: Path, *, start: int = 0, journal: str | None = None) -> None:
        """Records before the number ``start`` are skipped. ``journal``: its id, where the folder has another name."""
        self.folder = folder
        #: One past the last record that was read, or that is known to be lost.
        self.next = start
        self._checksum_start = checksum_start(journal or folder.name)
        self._segment: Segment | None = None
        self._offset = 0
        self._data = b""
        self._at = 0
        self._is_last = True
        #: The block that we are in, or that has just ended.
        self._block: BlockReader | None = None
        self._before = _ENDLESS

    def read(self, max_bytes: int, before: int = _ENDLESS) -> list[tuple[int, int, JournalRecord]]:
        """The next records in order, as (number, how many numbers it takes, record); about ``max_bytes`` of them, and none whose
        number is not ``before`` this one.

        Empty at the end of what is written so far. A :class:`Dropped` takes no number. Raises OSError when the disk does.
        """
        found: list[tuple[int, int, JournalRecord]] = []
        taken = 0
        self._before = before
        for item in self._items():
            record = self._record(item)
            if record is None:
                break
            self._pass(item)
            found.append((item.seq, item.takes, record))
            taken += item.end - item.payload
            if taken >= max_bytes:
                break
        return found

    def skip_to_end(self) -> None:
        """Go past everything that is written so far without decoding it; :attr:`next` is then the end of the journal."""
        self._before = _ENDLESS
        for item in self._items():
            self._pass(item)

    def skip(self, end: int) -> None:
        """Records before ``end`` are taken care of in another way."""
        self.next = max(self.next, end)

    def commit(self, end: int, *, ended: bool = False) -> None:
        """Records before ``end`` are safe in the store; ``ended``: the end of the run is among them, now or earlier.

        Segments that hold nothing else are removed, after the cursor that says so is durable. Raises OSError; the store's own
        position makes a commit that did not happen harmless.
        """
        found = folders.segments(self.folder)
        finished = [
            segment
            for segment, after in zip(found, found[1:], strict=False)
            if after.first <= end and self._is_past(segment)
        ]
        full: OSError | None = None
        try:
            folders.write_cursor(self.folder, Cursor(end, ended), durable=bool(finished))
        except OSError as error:
            # On a full disk there is no room for a cursor until segments go. The store has what is in them, and knows it.
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not finished:
                raise
            full = error
        for segment in finished:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.folder / segment.name)
        if full is not None:
            folders.write_cursor(self.folder, Cursor(end, ended), durable=False)

    # --- private ------------------------------------------------------------------------------------------------------

    def _is_past(self, segment: Segment) -> bool:
        return self._segment is not None and segment < self._segment

    def _pass(self, item: Frame | Cells) -> None:
        self._at = item.end
        self.next = max(self.next, item.seq + item.takes)

    def _hold(self, reason: str) -> None:
        name = self._segment.name if self._segment else ""
        self.held = f"{name} has {reason}"

    def _record(self, item: Frame | Cells) -> JournalRecord | None:
        """None, and :attr:`held` says why, when it is of a kind that we do not know."""
        if isinstance(item, Cells):
            return item.record
        try:
            return decode(self._data[item.payload : item.end])
        except UnknownFormat as error:
            self._hold(str(error))
            return None

    def _items(self) -> Iterator[Frame | Cells]:
        """Believable frames and cells from where we are. The caller moves on with :meth:`_pass`, or stays in front."""
        while self.held is None:
            if self._block is not None and self._block.number_at(self._offset + self._at) >= self._before:
                return  # what cannot be read here may be about to be written
            item = self._item()
            if item is None:
                if not self._find_more():
                    return
                continue
            if isinstance(item, Frame):
                self._block = None
                if is_cells(self._data[item.payload : item.end]):
                    self._enter(item)
                    continue
            if item.seq < self.next:
                self._at = item.end  # a copy of what has been read, or before the start
            elif item.seq >= self._before:
                return
            else:
                yield item

    def _item(self) -> Frame | Cells | None:
        """What begins exactly where we are."""
        block = self._block
        if block is not None:
            offset = self._offset + self._at
            seq = block.number_at(offset)
            record = block.points(self._data, self._at, offset)
            if record is not None:
                takes = len(record.values)
                return Cells(seq, takes, self._at, self._at + takes * CELL_BYTES, record)
        return frame_at(self._data, self._at, self._checksum_start)

    def _enter(self, frame: Frame) -> None:
        """A block of cells begins behind this frame."""
        if not are_possible():
            self._hold("points that this Python cannot check")
            return
        try:
            cells = decode_cells(self._data[frame.payload : frame.end])
        except UnknownFormat as error:
            self._hold(str(error))
            return
        self._block = BlockReader(cells, frame.seq, self._offset + frame.end, self._checksum_start)
        self._at = self._block.start - self._offset

    def _find_more(self) -> bool:
        """There is nothing where we are. Get more bytes, or go past damage, or on to the next segment; False: not now."""
        if self._segment is None:
            return self._open_next()
        # Whether a later segment exists is asked before the bytes are read: if so, these bytes are final.
        self._is_last = not any(self._segment < other for other in folders.segments(self.folder))
        wanted = max(bytes_wanted(self._data, self._at), _READ_BYTES)
        self._load(wanted)
        if self._item() is not None:
            return True
        self._load(None)
        found = self._next_after_damage()
        if found is not None:
            self._at = found
            return True
        # The torn end of the newest segment may be a frame that is being written.
        return False if self._is_last else self._open_next()

    def _next_after_damage(self) -> int | None:
        cell = self._block.next_row(self._data, self._at, self._offset + self._at) if self._block is not None else None
        at = self._at
        while (at := self._data.find(FRAME_MAGIC, at, cell)) >= 0:
            frame = frame_at(self._data, at, self._checksum_start)
            if frame is not None and (frame.seq >= self.next or frame.takes == 0):
                return at
            at += 1
        return cell

    def _open_next(self) -> bool:
        found = folders.segments(self.folder)
        current = self._segment
        later = [segment for segment in found if current is None or segment > current]
        # A segment can be passed over unread when the one after it begins with a number that we do not need either.
        while len(later) > 1 and later[1].first <= self.next:
            later.pop(0)
        if not later:
            return False
        self._segment, self._offset, self._data, self._at = later[0], 0, b"", 0
        self._block = None
        self._load(_READ_BYTES)
        try:
            self._at = HEADER_BYTES if is_header(self._data) else 0
        except UnknownFormat as error:
            self._hold(str(error))
            return False
        return True

    def _load(self, size: int | None) -> None:
        """Read again from where we are: ``size`` bytes, or all there are. A segment that has gone has none."""
        assert self._segment is not None
        self._offset += self._at
        self._at = 0
        self._data = b""
        try:
            fd = folders.open_for_reading(self.folder / self._segment.name)
        except FileNotFoundError:
            return
        try:
            size = size if size is not None else max(0, os.fstat(fd).st_size - self._offset)
            self._data = os.pread(fd, size, self._offset)
        finally:
            os.close(fd)


def tail_position(folder: Path) -> int:
    """One past the highest number in the journal, without decoding a record; 0 for a journal without any."""
    newest = folders.segments(folder)[-1:]
    reader = JournalReader(folder, start=newest[0].first if newest else 0)
    reader.skip_to_end()
    return reader.next


def unread(folder: Path, position: int) -> int:
    """How many numbers the journal holds beyond what the store has, whose own position is ``position``."""
    return max(0, tail_position(folder) - position)
