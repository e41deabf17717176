"""Fewer points for a chart, without losing what a person looks for in it."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from looptap_collector.backend import History

_Values: TypeAlias = npt.NDArray[np.float64]
_Places: TypeAlias = npt.NDArray[np.intp]

DEFAULT_POINTS = 2_000
#: First and last point, and up to five of a single bucket.
FEWEST = 7


def thin(history: History, points: int = DEFAULT_POINTS) -> History:
    """At most ``points`` of the history's points (7 or more), in the same order.

    The history is cut into buckets of equal length. Of each bucket stay its smallest and its largest finite
    value and one each of NaN, +Inf and -Inf where it has them; of the whole stay the first and the last
    point. A history that is short enough comes back as it is.
    """
    if points < FEWEST:
        raise ValueError(f"thinning keeps at least {FEWEST} points, {points} asked for")
    if len(history.values) <= points:
        return history
    chosen = _choose(history.values, points)
    return History(history.steps[chosen], history.times_ns[chosen], history.values[chosen])


def _choose(values: _Values, points: int) -> _Places:
    finite = np.isfinite(values)
    # Each search finds the first place of the largest key of a bucket; the mask says which places it may
    # mean.
    searches: list[tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]] = [
        (np.where(finite, values, -np.inf), finite),
        (np.where(finite, -values, -np.inf), finite),
    ]
    if not finite.all():
        kinds = (np.isnan(values), np.isposinf(values), np.isneginf(values))
        searches += [(kind, kind) for kind in kinds if kind.any()]
    buckets = (points - 2) // len(searches)
    length = -(-len(values) // buckets)
    kept = np.zeros(len(values), dtype=np.bool_)
    kept[[0, -1]] = True
    for keys, meant in searches:
        found = _largest_of_each(keys, length)
        kept[found[meant[found]]] = True
    return np.flatnonzero(kept)


def _largest_of_each(keys: npt.NDArray[Any], length: int) -> _Places:
    whole = len(keys) // length * length
    found: _Places = keys[:whole].reshape(-1, length).argmax(axis=1) + np.arange(0, whole, length)
    if whole < len(keys):
        found = np.append(found, whole + keys[whole:].argmax())
    return found
