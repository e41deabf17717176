"""A file on its way to a collector, in pieces, and at what pace.

The file stays open, so it may be renamed or replaced by a new one meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from looptap.digests import OpenFile, Unobtainable
from looptap.events import File

LIMIT_BYTES = 5 * 2**30
MOST_PIECE_BYTES = 4 * 2**20
LEAST_PIECE_BYTES = 64 * 2**10


class Upload(OpenFile):
    """One file. ``received``: how many bytes the collector has, None when it must be asked."""

    def __init__(self, file: File) -> None:
        """Reads the file once, for its digest. Raises :class:`Unobtainable`."""
        if file.size_bytes > LIMIT_BYTES:
            raise Unobtainable("too_large")
        super().__init__(file)
        self.received: int | None = None
        try:
            self.sha256 = self.digest()
        except BaseException:
            self.close()
            raise


class PieceSize:
    """How much to send at once: less where it does not get through in time or a proxy does not take it, more again when it does."""

    def __init__(self) -> None:
        self.bytes = MOST_PIECE_BYTES

    def shrink(self) -> bool:
        """False when it is as small as it gets."""
        was, self.bytes = self.bytes, max(self.bytes // 2, LEAST_PIECE_BYTES)
        return self.bytes < was

    def grow(self) -> None:
        self.bytes = min(self.bytes * 2, MOST_PIECE_BYTES)


class Pace:
    """So many bytes a second at most, counted over all that is sent, also what does not arrive. 0: as fast as it goes."""

    def __init__(
        self,
        bytes_per_second: float,
        now: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate = bytes_per_second
        self._now, self._wait = now, wait
        #: When all that was sent so far has had its time.
        self._due = now()

    def most(self, size: int) -> int:
        """How much of ``size`` bytes to send at once: what takes a second, so that nobody who wants to stop us waits for long."""
        return min(size, max(int(self._rate), LEAST_PIECE_BYTES)) if self._rate else size

    def spend(self, size: int) -> None:
        """Wait until it is time for another piece, of ``size`` bytes."""
        if not self._rate:
            return
        ahead = self._due - self._now()
        if ahead > 0:
            self._wait(ahead)
        self._due = max(self._due, self._now()) + size / self._rate
