"""What is not on disk (yet): frames that wait in memory, in order, until they can be written or have reached the store."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from looptap.journal.frames import is_points

RING_BYTES = 4 * 2**20


class Waiting(NamedTuple):
    """A frame that is not on disk (yet)."""

    seq: int
    takes: int
    payload: bytes


class Ring:
    def __init__(self) -> None:
        self._items: deque[Waiting] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._items)

    @property
    def first(self) -> Waiting:
        return self._items[0]

    def add(self, item: Waiting) -> None:
        self._items.append(item)
        self._bytes += len(item.payload)

    def remove_first(self) -> None:
        self._bytes -= len(self._items.popleft().payload)

    def remove_before(self, end: int) -> None:
        """All whose numbers are lower than this one."""
        while self._items and self._items[0].seq + self._items[0].takes <= end:
            self.remove_first()

    def from_number(self, start: int) -> list[Waiting]:
        return [item for item in self._items if item.seq >= start]

    def clear(self) -> int:
        """Returns how many records were in it."""
        records = sum(item.takes for item in self._items)
        self._items.clear()
        self._bytes = 0
        return records

    def shorten(self) -> int:
        """Once it is too large: the oldest points go first. Where there are no points, the newest record goes: the oldest says what
        run this is. Returns how many records went.

        Makes room for a sixteenth, so that a full ring is not walked again for every record.
        """
        if self._bytes <= RING_BYTES:
            return 0
        gone = 0
        kept: deque[Waiting] = deque()
        for item in self._items:
            if self._bytes > RING_BYTES - RING_BYTES // 16 and is_points(item.payload):
                self._bytes -= len(item.payload)
                gone += item.takes
            else:
                kept.append(item)
        self._items = kept
        while self._bytes > RING_BYTES:
            item = self._items.pop()
            self._bytes -= len(item.payload)
            gone += item.takes
        return gone
