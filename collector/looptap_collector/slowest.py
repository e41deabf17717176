"""Which rank of a job was the slowest, step by step: two series that are made from others when they are asked for.

``slowest_rank`` is the number of the rank, ``slowest_rank_lag`` how many seconds it was behind the median of the others. The time
of a rank counts up to where it begins to wait for the others (the gradients are summed up during the backward pass): data,
transfer, forward and other. Where these are not recorded it is the whole step, in which the wait of the quick ones for the slow
one is contained, so that it tells less. Where several optimizers share a step, each tells its part; compared is the sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from looptap_collector.backend import Backend, History, SeriesRow
from looptap_collector.printable import brief
from looptap_collector.query import FindsRuns
from looptap_collector.thinning import thin

RANK = "slowest_rank"
LAG = "slowest_rank_lag"
KEYS = (RANK, LAG)

_FORWARD = "time.forward"
_BEFORE_THE_WAIT = ("time.data", "time.transfer", _FORWARD, "time.other")
_WHOLE_STEP = "step_time"
#: Numbers that are compared at once; steps are taken in as many pieces as that needs.
_CELLS = 4_000_000
_Numbers = npt.NDArray[np.float64]
Bounds = tuple[int, int]


class Sources:
    """The series of a run that tell the time of its ranks."""

    def __init__(self, series: Iterable[SeriesRow]) -> None:
        by_rank: dict[int, list[SeriesRow]] = {}
        for row in series:
            if row.key in (*_BEFORE_THE_WAIT, _WHOLE_STEP) and (rank := rank_of(row, besides="optimizer")) is not None:
                by_rank.setdefault(rank, []).append(row)
        tell_forward = all(any(row.key == _FORWARD for row in own) for own in by_rank.values())
        keys = _BEFORE_THE_WAIT if tell_forward else (_WHOLE_STEP,)
        self.of: dict[int, list[SeriesRow]] = {
            rank: rows for rank, own in sorted(by_rank.items()) if (rows := [row for row in own if row.key in keys])
        }

    @property
    def tell(self) -> bool:
        """Whether there is anything to compare."""
        return len(self.of) > 1

    def count(self) -> int:
        """At least so many points the sources have, whichever it is that grows."""
        return sum(max(row.count for row in rows) for rows in self.of.values())

    def bounds(self) -> Bounds:
        rows = [row for rows in self.of.values() for row in rows]
        return min(row.first_step for row in rows), max(row.last_step for row in rows)

    def pieces(self, within: Bounds | None) -> Iterator[Bounds]:
        """The steps that the sources have, in pieces that fit into memory."""
        first, last = self.bounds()
        if within is not None:
            first, last = max(first, within[0]), min(last, within[1])
        size = max(1, _CELLS // len(self.of))
        # Steps may be far apart: pieces of steps, but not more of them than there are points.
        size = max(size, (last - first + 1) // max(1, self.count()) + 1)
        for start in range(first, last + 1, size):
            yield start, min(last, start + size - 1)


def history(
    backend: Backend,
    run: str,
    key: str,
    *,
    points: int | None = None,
    steps: Bounds | None = None,
    sources: Sources | None = None,
) -> History:
    """One of :data:`KEYS` for every step that several ranks have, thinned to ``points`` where that is given. Raises KeyError for a
    run of one process."""
    if isinstance(backend, FindsRuns):
        # A collector far away makes it, and sends the result.
        if points is None:
            return backend.history(run, key, {}, steps=steps)
        return backend.chart(run, key, {}, points=points, steps=steps)
    sources = Sources(backend.series([run])) if sources is None else sources
    if key not in KEYS or not sources.tell:
        raise KeyError(f"run {run!r} has no series {key!r}: it has the times of one process only")
    found = [_compared(backend, sources, piece) for piece in sources.pieces(steps)]
    at, times_ns, ranks, lags = (np.concatenate(columns) for columns in zip(*found, strict=True)) if found else _NOTHING
    whole = History(at, times_ns, ranks if key == RANK else lags)
    return whole if points is None else thin(whole, points)


_NOTHING = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), np.empty(0))
_Compared = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], _Numbers, _Numbers]


def summary(run: str, key: str, sources: Sources) -> SeriesRow:
    """What can be said of it without making it: ``count`` grows with it and is not its length, the numbers are not known."""
    first, last = sources.bounds()
    nan = float("nan")
    return SeriesRow(run, key, {}, sources.count(), 0, nan, None, None, first, last, 0)


def _compared(backend: Backend, sources: Sources, piece: Bounds) -> _Compared:
    """Steps, times, the slowest rank of each and its lag."""
    taken = [_time_of(backend, rows, piece) for rows in sources.of.values()]
    steps = np.unique(np.concatenate([own.steps for own in taken]))
    times_ns = np.zeros(len(steps), np.int64)
    seconds = np.full((len(taken), len(steps)), np.nan)
    for row, own in zip(seconds, taken, strict=True):
        at = np.searchsorted(steps, own.steps)
        row[at] = own.values
        times_ns[at] = np.maximum(times_ns[at], own.times_ns)
    several = np.isfinite(seconds).sum(axis=0) > 1
    steps, times_ns, seconds = steps[several], times_ns[several], seconds[:, several]
    if not len(steps):
        return _NOTHING
    slowest = np.nanargmax(seconds, axis=0)
    columns = np.arange(len(steps))
    longest = seconds[slowest, columns]
    seconds[slowest, columns] = np.nan
    lags = longest - np.nanmedian(seconds, axis=0)
    return steps, times_ns, np.array(list(sources.of), np.float64)[slowest], lags


def _time_of(backend: Backend, rows: Sequence[SeriesRow], piece: Bounds) -> History:
    """The seconds of a rank by step, each step once."""
    parts = [last_of_each(backend.history(row.run, row.key, row.context, steps=piece)) for row in rows]
    if len(parts) == 1:
        return parts[0]
    total = added_up(parts)
    forward = [part.steps for row, part in zip(rows, parts, strict=True) if row.key == _FORWARD]
    if not forward:
        return total
    # Without its forward pass a step is not told completely.
    is_whole = np.isin(total.steps, np.concatenate(forward))
    return History(total.steps[is_whole], total.times_ns[is_whole], total.values[is_whole])


def added_up(parts: Sequence[History]) -> History:
    """By step, the sum of those that have it. Each has a step once."""
    steps = np.unique(np.concatenate([part.steps for part in parts]))
    total, times_ns = np.zeros(len(steps)), np.zeros(len(steps), np.int64)
    for part in parts:
        at = np.searchsorted(steps, part.steps)
        total[at] += part.values
        times_ns[at] = np.maximum(times_ns[at], part.times_ns)
    return History(steps, times_ns, total)


def last_of_each(points: History) -> History:
    """Of a step that was told several times, what was told last."""
    is_last = np.append(points.steps[1:] != points.steps[:-1], True) if len(points.steps) else np.empty(0, bool)
    return History(points.steps[is_last], points.times_ns[is_last], points.values[is_last])


def rank_of(row: SeriesRow, besides: str | None = None) -> int | None:
    """Rank 0 has no context of its own; series of something else than a rank (of one optimizer of several) are left out, unless
    it is of this name."""
    context = dict(row.context)
    context.pop(besides or "", None)
    rank = context.pop("rank", "0")
    return int(rank) if not context and rank.isascii() and rank.isdecimal() and len(rank) < 10 else None


def in_words(backend: Backend, run: str, series: Sequence[SeriesRow]) -> str | None:
    """``slowest rank 2 in 71 % of steps, 13 ms behind the median``: the rank that it is most often, and its median lag in these
    steps. None where there is nothing to compare."""
    sources = Sources(series)
    if not sources.tell:
        return None
    ranks = history(backend, run, RANK, sources=sources).values
    if not len(ranks):
        return None
    numbers, counts = np.unique(ranks, return_counts=True)
    rank = numbers[np.argmax(counts)]
    lag = float(np.median(history(backend, run, LAG, sources=sources).values[ranks == rank]))
    share = round(100 * float(counts.max()) / len(ranks))
    return f"slowest rank {int(rank)} in {share} % of steps, {brief(lag)} behind the median"
