"""Points in cells: how the path of every training step writes into the journal.

Two hooks of a training lie a millisecond apart, and the step between them has emptied the caches. What a hook costs there is not
its work but the code that nobody else has touched since last time: a frame needs msgspec, zlib, the lock and mmap, at 2 to 5 µs
each, where the same calls in a loop take a tenth of one (``benchmarks/cold_calls.py``, decision 0010). What a step has to say is
one *row*: its values, which are packed and stored into the mapped file in one piece.

::

    frame    Cells(count, rows)   the keys and the context of the rows that may follow, so that a block can be read on its own
    zeros    up to a multiple of 8
    row      row u32   n u32   step i64   time_ns i64   n values f64   check i64

A row of n values takes n cells of 40 bytes and n sequence numbers, one for each value, so a cell and its number tell each other;
what it does not need of its cells stays empty. A row that meets the end of the block has as many values as there were cells left. A
block is the open end of a journal: it is closed by the next frame, which stands where the first cell is that was not taken.

**Without a lock.** Cells are handed out by one iterator, and those of a row in one call, which nothing can interrupt: two threads,
or a signal handler and what it has interrupted, never get the same cell. Closing exhausts the iterator in one call; who comes too
late is told. This rests on the interpreter lock; where there is none, there are no cells (:func:`are_possible`).

**The check** is Python's hash of a tuple of integers, the words of the row, which is the same in every 64-bit CPython from 3.8 on
(and tested when this module is imported). It starts from the journal and the sequence number; any single bit that flips changes it.
"""

from __future__ import annotations

import functools
import operator
import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

from looptap.events import Cells, Context, Points
from looptap.journal.window import Window

CELL_ALIGNMENT = 8
CELL_BYTES = 40
#: Cells of a block: with its frame lost to damage, that many points are.
BLOCK_CELLS = 500
#: Keys of all kinds of rows together; with more than this, points are written as frames.
KEYS_LIMIT = 400

#: ``put(values, step, time_ns, context)`` returns how many of the values, in order, are in cells now. Never raises an Exception.
Put: TypeAlias = Callable[[Mapping[str, float], int, int, Context], int]

_HASHES_AS_EXPECTED = hash((1, 2**61 - 1, (2**63, 12345678901234567890, 4607182418800017408))) == -2866585430578664900
_HEAD = struct.Struct("<II")
_CHECK = struct.Struct("<q")


class Shape(NamedTuple):
    """How a row of so many values is read and written."""

    values: int
    size: int
    #: Head, step, time and values to bytes, and back; the same bytes as words; these bytes and the check into memory.
    pack: Callable[..., bytes]
    unpack_from: Callable[..., tuple[Any, ...]]
    words: Callable[[bytes], tuple[int, ...]]
    store: Callable[..., None]

    @classmethod
    @functools.cache
    def of(cls, count: int) -> Shape:
        row = struct.Struct(f"<IIqq{count}d")
        words, stored = struct.Struct(f"<{3 + count}Q"), struct.Struct(f"<{row.size}sq")
        return cls(count, row.size, row.pack, row.unpack_from, words.unpack, stored.pack_into)


def are_possible() -> bool:
    """Whether this interpreter can write and check cells."""
    has_lock = getattr(sys, "_is_gil_enabled", lambda: True)()
    return _HASHES_AS_EXPECTED and has_lock and sys.byteorder == "little"


def no_cell(values: Mapping[str, float], step: int, time_ns: int, context: Context) -> int:
    """The ``put`` of a journal that has no open block."""
    return 0


class Rows:
    """The kinds of rows that a journal has cells for, numbered from 0: which keys, in which order and context."""

    def __init__(self) -> None:
        self.all: list[tuple[tuple[str, ...], Context]] = []
        #: By id of the context, and by keys: number and shape. The contexts are kept alive, so that their ids stay their own.
        self.known_in: dict[int, dict[tuple[str, ...], tuple[int, Shape]]] = {}
        self._contexts: list[Context] = []
        self._keys = 0

    def known(self, context: Context) -> Context:
        """The object that stands for this context here: callers may hand over an equal one, a new one each time."""
        return next((known for known in self._contexts if known == context), context)

    def add(self, values: Mapping[str, float], context: Context) -> bool:
        """Number this kind; False when there are too many. The context is one from :meth:`known`."""
        keys, table = tuple(values), self.known_in.get(id(context), {})
        if keys in table:
            return True
        if self._keys + len(keys) > KEYS_LIMIT:
            return False
        if not table:
            self.known_in[id(context)] = table
            self._contexts.append(context)
        self._keys += len(keys)
        table[keys] = len(self.all), Shape.of(len(keys))
        self.all.append((keys, context))
        return True


class Block:
    """Cells in a mapped window that points are being put into."""

    __slots__ = ("_cells", "_filled", "_left", "_memory", "_offset", "_tag", "first", "put", "start")

    def __init__(self, window: Window, start: int, first: int, checksum_start: int, rows: Rows) -> None:
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
        self.put = _putter(self._cells, self._memory, self._tag - offset, rows)

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
            row = _read(self._memory, self._offset + offset, self._tag + offset, BLOCK_CELLS - self._filled)
            if row is None:
                return False
            self._filled += row[1]
        return True


def _putter(cells: Iterator[int], memory: memoryview[int], tag: int, rows: Rows) -> Put:
    # A closure: its variables lie together, and reading one costs less than an attribute. Written out for speed.
    known_in = rows.known_in

    def put(values: Mapping[str, float], step: int, time_ns: int, context: Context) -> int:
        try:
            number, (count, _, pack, _, words, store) = known_in[id(context)][tuple(values)]
            # Before any cell is taken: whatever is no number or too large shows here.
            row = pack(number, count, step, time_ns, *values.values())
            taken = tuple(islice(cells, count))
            if len(taken) < count:
                if not taken:
                    return 0
                count, _, pack, _, words, store = Shape.of(len(taken))
                row = pack(number, count, step, time_ns, *list(values.values())[:count])
            at = taken[0]
            store(memory, at, row, hash((tag + at, words(row))))
            return count
        except Exception:  # noqa: BLE001 - a row that is new, a value that is none: the long way knows which
            return 0

    return put


def _read(
    memory: bytes | memoryview[int], at: int, tag: int, most: int
) -> tuple[int, int, int, int, list[float]] | None:
    """Number of its kind and of its values, step, time and values of the row at this offset, which has ``most`` values; None when
    there is none, or a damaged one."""
    kind, count = _HEAD.unpack_from(memory, at)
    if not 0 < count <= most:
        return None
    shape = Shape.of(count)
    end = at + shape.size
    if len(memory) < end + _CHECK.size:
        return None
    if _CHECK.unpack_from(memory, end) != (hash((tag, shape.words(bytes(memory[at:end])))),):
        return None
    _, _, step, time_ns, *values = shape.unpack_from(memory, at)
    return kind, count, step, time_ns, values


class BlockReader:
    """The cells behind a frame, as a reader meets them."""

    def __init__(self, cells: Cells, first: int, start: int, checksum_start: int) -> None:
        """``start`` is the offset in the file of the byte after the frame, ``first`` the sequence number of the first cell."""
        self.start = start + -start % CELL_ALIGNMENT
        self._count = cells.count
        self._first = first
        self._rows = cells.rows
        self._tag = _tag(first, checksum_start)

    def number_at(self, offset: int) -> int:
        """The sequence number that a cell at this offset of the file would have."""
        return self._first + (offset - self.start) // CELL_BYTES

    def points(self, data: bytes, at: int, offset: int) -> Points | None:
        """The row at ``data[at:]`` (at ``offset`` of the file), which takes a cell for each of its values. None when there is none,
        or one that is not filled, or whose end is not in ``data`` yet."""
        place = (offset - self.start) // CELL_BYTES
        if not 0 <= place < self._count or len(data) - at < CELL_BYTES:
            return None
        row = _read(data, at, self._tag + offset - self.start, self._count - place)
        if row is None or row[0] >= len(self._rows) or len(data) - at < row[1] * CELL_BYTES:
            return None
        kind, count, step, time_ns, values = row
        keys, context = self._rows[kind]
        return Points(step, time_ns, dict(zip(keys, values, strict=False)), context) if count <= len(keys) else None

    def next_row(self, data: bytes, at: int, offset: int) -> int | None:
        """Where in ``data`` the first filled row behind this place begins; None when there is none."""
        while at < len(data) and offset < self.start + self._count * CELL_BYTES:
            at, offset = at + CELL_BYTES, offset + CELL_BYTES
            if self.points(data, at, offset) is not None:
                return at
        return None


def _tag(first: int, checksum_start: int) -> int:
    """What the checks of a block start from: short enough to count on within a machine word."""
    return hash((checksum_start, first)) >> 16
