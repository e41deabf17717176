"""How fast something grows, and how sure that is."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

#: Both sides of a normal distribution leave 5 % outside of so many standard deviations.
_Z_95 = 1.96
#: More points than this are averaged in stretches first: pairs grow with the square, and means are less alike than neighbours.
MOST_POINTS = 200

_Numbers = npt.NDArray[np.float64]


class Slope(NamedTuple):
    """Units a second; true within ``low`` and ``high`` in 95 of 100 cases."""

    middle: float
    low: float
    high: float


def slope(seconds: _Numbers, values: _Numbers) -> Slope | None:
    """The median of the slopes between all pairs of points (Theil and Sen), with the interval that follows from the ranks of these
    slopes (Sen 1968, equation 2.6). Up to 29 % of the points may be anything without moving it far. None for fewer than 4 points,
    or points of one time."""
    if len(values) > MOST_POINTS:
        seconds, values = (
            np.array([part.mean() for part in np.array_split(column, MOST_POINTS)]) for column in (seconds, values)
        )
    one, other = np.triu_indices(len(values), 1)
    apart = seconds[other] - seconds[one]
    rising = np.sort((values[other] - values[one])[apart > 0] / apart[apart > 0])
    n = len(values)
    if n < 4 or not len(rising):
        return None
    spread = _Z_95 * math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    low = max(0, math.floor((len(rising) - spread) / 2))
    high = min(len(rising) - 1, math.ceil((len(rising) + spread) / 2))
    return Slope(float(np.median(rising)), float(rising[low]), float(rising[high]))
