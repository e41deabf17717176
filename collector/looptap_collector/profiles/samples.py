"""Numbers that were sampled, and what they say of the time between: samples are rarer in long runs, so each counts for the time
that it stands for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from looptap_collector.backend import History

#: A sample stands for so many seconds at most: the machine may have slept, or its clock been set.
LONGEST_GAP_SECONDS = 60.0
#: Fewer samples say nothing about a run.
MIN_SAMPLES = 5


def clean(history: History, window: tuple[int, int] | None = None) -> History:
    """The finite values, in order of time, of the samples within a ``window`` of times (both ends included)."""
    keep = np.isfinite(history.values)
    if window is not None:
        keep &= (history.times_ns >= window[0]) & (history.times_ns <= window[1])
    order = np.argsort(history.times_ns[keep], kind="stable")
    return History(history.steps[keep][order], history.times_ns[keep][order], history.values[keep][order])


def weights(samples: History) -> npt.NDArray[np.float64]:
    """Seconds that each sample stands for: those since the one before."""
    gaps = np.clip(np.diff(samples.times_ns) / 1e9, 0.0, LONGEST_GAP_SECONDS)
    if not len(gaps) or not gaps.any():
        return np.ones(len(samples.values))
    return np.concatenate(([np.median(gaps)], gaps))


def mean(samples: History) -> float:
    """Over the time, not over the samples."""
    return float(np.average(samples.values, weights=weights(samples)))


def share_above(samples: History, bound: float) -> float:
    """The share of the time, from 0 to 1, in which the value was above the bound."""
    return float(np.average(samples.values > bound, weights=weights(samples)))
