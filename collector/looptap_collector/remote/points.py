"""Points of one series over HTTP, however many: what is too much for one answer comes in ranges of steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import msgspec
import numpy as np

from looptap.events import Context
from looptap_collector.backend import History, SeriesRow

STEPS = (-(1 << 63), (1 << 63) - 1)
#: About so many points are asked for at once where the steps are evenly spread.
_POINTS_AT_ONCE = 500_000

Bounds = tuple[int, int]
Ask = Callable[[Bounds], History]


class TooMany(Exception):
    """More points than one answer holds."""


class Columns(msgspec.Struct):
    """One of the ``histories`` of ``GET /v1/histories`` as MessagePack."""

    run: str
    key: str
    context: Context
    steps: bytes
    times_ns: bytes
    values: bytes

    def history(self) -> History:
        """Raises ValueError where the columns do not belong together."""
        columns = History(
            np.frombuffer(self.steps, "<i8").astype(np.int64, copy=False),
            np.frombuffer(self.times_ns, "<i8").astype(np.int64, copy=False),
            np.frombuffer(self.values, "<f8").astype(np.float64, copy=False),
        )
        if not len(columns.steps) == len(columns.times_ns) == len(columns.values):
            raise ValueError("columns of several lengths")
        return columns


class Histories(msgspec.Struct):
    histories: list[Columns]


def in_ranges(ask: Ask, series: SeriesRow, bounds: Bounds) -> History:
    """All points between two steps, range by range. ``ask`` raises :class:`TooMany` for a range that has to be smaller."""
    first, last = series.first_step, series.last_step
    count = series.count // _POINTS_AT_ONCE + 1
    cuts = [first + (last - first + 1) * number // count for number in range(1, count)]
    starts = [bounds[0], *sorted({cut for cut in cuts if bounds[0] < cut <= bounds[1]}), bounds[1] + 1]
    return _joined([_range(ask, (start, behind - 1)) for start, behind in pairwise(starts)])


def _range(ask: Ask, bounds: Bounds) -> History:
    try:
        return ask(bounds)
    except TooMany:
        first, last = bounds
        if first == last:
            raise
        middle = (first + last) // 2
        return _joined([_range(ask, (first, middle)), _range(ask, (middle + 1, last))])


def _joined(pieces: Sequence[History]) -> History:
    return History(
        np.concatenate([piece.steps for piece in pieces]),
        np.concatenate([piece.times_ns for piece in pieces]),
        np.concatenate([piece.values for piece in pieces]),
    )
