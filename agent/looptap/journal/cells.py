"""Points in cells: how the path of every training step writes into the journal.

Two hooks of a training lie a millisecond apart, and the step between them has emptied the caches. What a hook costs there is not
its work but the code that nobody else has touched since last time: a frame needs msgspec, struct, zlib, the lock and mmap, at 2 to
5 µs each, where the same calls in a loop take a tenth of one (``benchmarks/cold_calls.py``, decision 0010). A cell needs one
call of one of them: five numbers are packed into the mapped file.

::

    frame    Cells(count, series)   the series that may follow, so that a block can be read on its own
    zeros    up to a multiple of 8
    cell     series u64   step i64   time_ns i64   value f64   check i64       40 bytes, each takes one sequence number

A block is the open end of a journal: it is closed by the next frame, which stands where the first cell is that was not taken.

**Without a lock.** Cells are handed out by one iterator, whose ``next`` nothing can interrupt: two threads, or a signal handler and
what it has interrupted, never get the same cell. Closing exhausts the iterator in one call; who comes too late is told. This rests
on the interpreter lock; where there is none, there are no cells (:func:`are_possible`).

**The check** is Python's hash of a tuple of numbers, which is the same in every 64-bit CPython from 3.8 on (and tested when this
module is imported). It starts from the journal and the sequence number; any single bit that flips changes it. What has no hash
of its own goes into it as the integer that its bytes are: NaN, of which every object has another hash, ±0.0, whose hashes are one,
and a negative step, since −1 and −2 have the same. ±Inf are values like any other.
"""

from __future__ import annotations

import operator
import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from looptap.events import Cells, Context, Points
from looptap.journal.window import Window

CELL_ALIGNMENT = 8
CELL_BYTES = 40
#: Cells of a block: with its frame lost to damage, that many points are.
BLOCK_CELLS = 500
#: More series than this are written as frames.
SERIES_LIMIT = 64

#: ``put(values, step, time_ns, context)`` returns how many of the values, in order, are in cells now. Never raises an Exception.
Put: TypeAlias = Callable[[Mapping[str, float], int, int, Context], int]

_HASHES_AS_EXPECTED = (
    hash((1, 2**61 - 1, 2**63, 12345678901234567890, 0.1, -1e300, float("inf"))) == -1631015093310160319
)
_CELL = struct.Struct("<Qqqdq")
_WORDS = struct.Struct("<QQQQ")
_bits_of = struct.Struct("<Q").unpack
_double = struct.Struct("<d").pack


def are_possible() -> bool:
    """Whether this interpreter can write and check cells."""
    has_lock = getattr(sys, "_is_gil_enabled", lambda: True)()
    return _HASHES_AS_EXPECTED and has_lock and sys.byteorder == "little"


def no_cell(values: Mapping[str, float], step: int, time_ns: int, context: Context) -> int:
    """The ``put`` of a journal that has no open block."""
    return 0


class Series:
    """The series that a journal has cells for, numbered from 0."""

    def __init__(self) -> None:
        self.all: list[tuple[str, Context]] = []
        #: By id of the context, and by key. The contexts are kept alive, so that their ids stay their own.
        self.numbers: dict[int, dict[str, int]] = {}
        self._contexts: list[Context] = []

    def known(self, context: Context) -> Context:
        """The object that stands for this context here: callers may hand over an equal one, a new one each time."""
        return next((known for known in self._contexts if known == context), context)

    def add(self, keys: Mapping[str, float], context: Context) -> bool:
        """Number these keys; False when there are too many. The context is one from :meth:`known`."""
        table = self.numbers.get(id(context))
        if table is None:
            if len(self._contexts) >= SERIES_LIMIT:
                return False
            table = self.numbers[id(context)] = {}
            self._contexts.append(context)
        for key in keys:
            if key not in table:
                if len(self.all) >= SERIES_LIMIT:
                    return False
                table[key] = len(self.all)
                self.all.append((key, context))
        return True


class Block:
    """Cells in a mapped window that points are being put into."""

    __slots__ = ("_cells", "_filled", "_left", "_memory", "_offset", "_tag", "first", "put", "start")

    def __init__(self, window: Window, start: int, first: int, checksum_start: int, series: Series) -> None:
        """``start`` is the offset of the first cell in the file, ``first`` its sequence number."""
        self.first = first
        self.start = start
        self._offset = offset = start - window.start
        self._tag = _tag(first, checksum_start)
        self._memory = window.bytes()
        #: Offsets, in the window, of the cells that are free.
        self._cells = iter(range(offset, offset + BLOCK_CELLS * CELL_BYTES, CELL_BYTES))
        #: Those that nobody took.
        self._left: list[int] = []
        self._filled = 0
        self.put = _putter(self._cells, self._memory, self._tag - offset, series.numbers)

    @property
    def taken(self) -> int:
        """How many cells were handed out; the last ones may be about to be filled by other threads."""
        return BLOCK_CELLS - operator.length_hint(self._cells) - len(self._left)

    def close(self) -> int:
        """From now on no cell is handed out. Returns how many were. Closing again changes nothing."""
        self._left.extend(self._cells)  # one call, which no other thread and no signal handler can come into
        return BLOCK_CELLS - len(self._left)

    def is_filled(self, taken: int) -> bool:
        """Whether the first ``taken`` cells are in the file."""
        while self._filled < taken:
            offset = self._filled * CELL_BYTES
            if _read(self._memory, self._offset + offset, self._tag + offset) is None:
                return False
            self._filled += 1
        return True


def _putter(cells: Iterator[int], memory: memoryview[int], tag: int, numbers: dict[int, dict[str, int]]) -> Put:
    # A closure: its variables lie together, and reading one costs less than an attribute. Written out for speed.
    take, store = cells.__next__, _CELL.pack_into
    nothing: dict[str, int] = {}

    def put(values: Mapping[str, float], step: int, time_ns: int, context: Context) -> int:
        done = 0
        try:
            table = numbers.get(id(context), nothing)
            of_step = step if step >= 0 else step + 2**64
            if time_ns < 0:  # before 1970
                return 0
            for key, value in values.items():
                series = table[key]
                if type(value) is not float:
                    break
                hashed = value if value and value == value else _bits(value)
                at = take()
                store(memory, at, series, step, time_ns, value, hash((tag + at, series, of_step, time_ns, hashed)))
                done += 1
        except Exception:  # noqa: BLE001 - a new series, a full block, a value that is none: the long way knows which
            return done
        return done

    return put


def _bits(value: float) -> int:
    number: int = _bits_of(_double(value))[0]
    return number


def _read(memory: bytes | memoryview[int], at: int, tag: int) -> tuple[int, int, int, float] | None:
    """Number of the series, step, time and value of the cell at this offset; None when there is none, or a damaged one."""
    number, step, time_ns, value, check = _CELL.unpack_from(memory, at)
    _, step_bits, time_bits, value_bits = _WORDS.unpack_from(memory, at)
    hashed = value if value and value == value else value_bits
    if check != hash((tag, number, step_bits, time_bits, hashed)):
        return None
    return number, step, time_ns, value


class BlockReader:
    """The cells behind a frame, as a reader meets them."""

    def __init__(self, cells: Cells, first: int, start: int, checksum_start: int) -> None:
        """``start`` is the offset in the file of the byte after the frame, ``first`` the sequence number of the first cell."""
        self.start = start + -start % CELL_ALIGNMENT
        self._end = self.start + cells.count * CELL_BYTES
        self._first = first
        self._series = cells.series
        self._tag = _tag(first, checksum_start)

    def number_at(self, offset: int) -> int:
        """The sequence number that a cell at this offset of the file would have."""
        return self._first + (offset - self.start) // CELL_BYTES

    def points(self, data: bytes, at: int, offset: int, most: int) -> tuple[Points, int] | None:
        """What the cell at ``data[at:]`` (at ``offset`` of the file) holds, together with those behind it that were put in
        with it, and how many cells these are: at most ``most``. None when this is no cell, or one that is not filled."""
        first = self._cell(data, at, offset)
        if first is None:
            return None
        (key, context), step, time_ns, value = first
        values = {key: value}
        while len(values) < most:
            at, offset = at + CELL_BYTES, offset + CELL_BYTES
            other = self._cell(data, at, offset)
            if other is None or other[1] != step or other[2] != time_ns:
                break
            (key, of_other), _, _, value = other
            if of_other != context or key in values:
                break
            values[key] = value
        return Points(step, time_ns, values, context), len(values)

    def _cell(self, data: bytes, at: int, offset: int) -> tuple[tuple[str, Context], int, int, float] | None:
        """Series, step, time and value."""
        if not self.start <= offset < self._end or len(data) - at < CELL_BYTES:
            return None
        cell = _read(data, at, self._tag + offset - self.start)
        if cell is None or cell[0] >= len(self._series):
            return None
        return self._series[cell[0]], *cell[1:]

    def next_cell(self, data: bytes, at: int, offset: int) -> int | None:
        """Where in ``data`` the first filled cell behind this one begins; None when there is none."""
        while offset < self._end and at < len(data):
            at, offset = at + CELL_BYTES, offset + CELL_BYTES
            if self._cell(data, at, offset) is not None:
                return at
        return None


def _tag(first: int, checksum_start: int) -> int:
    """What the checks of a block start from: short enough to count on within a machine word."""
    return hash((checksum_start, first)) >> 16
