"""The steps of one process: how long each took, and where that time went."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np
import numpy.typing as npt

from looptap_collector.backend import History
from looptap_collector.slowest import last_of_each

#: In the order in which a step comes upon them. *train* is forward, backward and optimizer where nobody can tell them apart.
PHASES = ("data", "transfer", "forward", "backward", "optimizer", "train", "other")
#: The first steps compile, warm caches and start workers; where there are enough others they are left out.
WARM_UP_STEPS = 3
_ENOUGH_OTHERS = 20

_Numbers = npt.NDArray[np.float64]


class Steps(msgspec.Struct, frozen=True):
    """``times_ns`` is when each ended; ``phases`` are seconds by name, 0 where a step has no such part."""

    rank: int
    numbers: npt.NDArray[np.int64]
    times_ns: npt.NDArray[np.int64]
    seconds: _Numbers
    phases: Mapping[str, _Numbers]

    def __len__(self) -> int:
        return len(self.numbers)

    def share(self, *phases: str) -> float:
        """Of these phases in all of the time, from 0 to 1."""
        total = float(self.seconds.sum())
        return sum(float(self.phases[name].sum()) for name in phases if name in self.phases) / total if total else 0.0

    def mean(self, phase: str) -> float:
        return float(self.phases[phase].mean())


def steps_of(rank: int, step_time: History, phases: Mapping[str, History]) -> Steps:
    """Steps whose time is a number, without those of the warm-up."""
    whole = last_of_each(step_time)
    usable = np.isfinite(whole.values) & (whole.values >= 0)
    if usable.sum() >= WARM_UP_STEPS + _ENOUGH_OTHERS:
        usable[np.flatnonzero(usable)[:WARM_UP_STEPS]] = False
    numbers = whole.steps[usable]
    aligned = {name: _aligned(last_of_each(history), numbers) for name, history in phases.items()}
    return Steps(rank, numbers, whole.times_ns[usable], whole.values[usable], aligned)


def _aligned(part: History, numbers: npt.NDArray[np.int64]) -> _Numbers:
    values = np.zeros(len(numbers))
    if len(part.steps) and len(numbers):
        at = np.minimum(np.searchsorted(part.steps, numbers), len(part.steps) - 1)
        found = part.steps[at] == numbers
        values[found] = part.values[at[found]]
    return np.where(np.isfinite(values), values, 0.0)
