"""What is known of a series without reading its points, and how new points change it."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from looptap.events import Batch, Context, SeriesPoints
from looptap_collector.backend import Rejected
from looptap_collector.chunks import Float64s, Int64s


def context_text(context: Context) -> str:
    """Equal contexts give equal text."""
    return msgspec.json.encode(context, order="sorted").decode()


class Columns(msgspec.Struct, frozen=True):
    """Points of one series in order of arrival. Three arrays of one length."""

    steps: Int64s
    times_ns: Int64s
    values: Float64s

    def __len__(self) -> int:
        return len(self.steps)

    def cut(self, longest: int) -> list[Columns]:
        """Neighbouring pieces of nearly equal length, none longer than ``longest``."""
        if 0 < len(self) <= longest:
            return [self]
        count = -(-len(self) // longest)
        bounds = [len(self) * piece // count for piece in range(count + 1)]
        return [
            Columns(self.steps[start:end], self.times_ns[start:end], self.values[start:end])
            for start, end in pairwise(bounds)
        ]


def columns_of(points: SeriesPoints) -> Columns:
    """The arrays of a batch's series, not copied. Raises :class:`Rejected` when they do not belong
    together."""
    lengths = {len(points.steps), len(points.times_ns), len(points.values)}
    if len(lengths) != 1 or len(points.steps) % 8:
        raise Rejected(
            f"series {points.key!r}: steps, times and values take {len(points.steps)}, "
            f"{len(points.times_ns)} and {len(points.values)} bytes; they must agree and be a multiple of 8"
        )
    return Columns(
        np.frombuffer(points.steps, dtype="<i8"),
        np.frombuffer(points.times_ns, dtype="<i8"),
        np.frombuffer(points.values, dtype="<f8"),
    )


#: Run, key and context (as text) of a series.
Name: TypeAlias = tuple[str, str, str]
#: Points by series, in order of arrival.
Points: TypeAlias = dict[Name, list[Columns]]


def columns_by_series(batch: Batch) -> Points:
    """Raises :class:`Rejected` when the arrays of a series do not belong together."""
    pieces: Points = {}
    for points in batch.series:
        columns = columns_of(points)
        if len(columns):
            pieces.setdefault((batch.run, points.key, context_text(points.context)), []).append(columns)
    return pieces


def joined(pieces: list[Columns]) -> Columns:
    if len(pieces) == 1:
        return pieces[0]
    if not pieces:
        return Columns(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float64))
    return Columns(
        np.concatenate([piece.steps for piece in pieces]),
        np.concatenate([piece.times_ns for piece in pieces]),
        np.concatenate([piece.values for piece in pieces]),
    )


class Summary(msgspec.Struct, frozen=True):
    """Of one point at least. ``last`` belongs to the highest step, the latest to arrive among equals."""

    count: int
    nan_count: int
    last: float
    min: float | None
    max: float | None
    first_step: int
    last_step: int
    last_time_ns: int

    @staticmethod
    def of(points: Columns) -> Summary:
        steps, values = points.steps, points.values
        nan_count = int(np.count_nonzero(np.isnan(values)))
        known = nan_count < len(values)
        last = _last_maximum(steps)
        return Summary(
            count=len(steps),
            nan_count=nan_count,
            last=float(values[last]),
            min=float(np.fmin.reduce(values)) if known else None,
            max=float(np.fmax.reduce(values)) if known else None,
            first_step=int(steps.min()),
            last_step=int(steps[last]),
            last_time_ns=int(points.times_ns[last]),
        )

    def then(self, later: Summary) -> Summary:
        """The summary of both, where ``later`` arrived after this one."""
        newest = later if later.last_step >= self.last_step else self
        return Summary(
            count=self.count + later.count,
            nan_count=self.nan_count + later.nan_count,
            last=newest.last,
            min=_first_known(min, self.min, later.min),
            max=_first_known(max, self.max, later.max),
            first_step=min(self.first_step, later.first_step),
            last_step=newest.last_step,
            last_time_ns=newest.last_time_ns,
        )

    def row(self) -> dict[str, Any]:
        """As columns of the table ``series``."""
        return {
            **msgspec.structs.asdict(self),
            "last_real": _if_finite(self.last),
            "min_real": _if_finite(self.min),
            "max_real": _if_finite(self.max),
        }


def _last_maximum(steps: npt.NDArray[np.int64]) -> int:
    return len(steps) - 1 - int(steps[::-1].argmax())


def _first_known(choose: Any, one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return float(choose(one, other))


def _if_finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
