"""Whether a stream of answers is still as its reference says, looked at window by window.

The last :data:`BLOCK_VALUES` values (at least; whole windows) are held against the reference. A drift is told once it is certain
*and* of a size that matters, and is over once it clearly is not: what is between changes nothing, so a stream that moves about a
threshold raises one alarm.

A day has 8,640 windows of 10 seconds. At a chance of :data:`CHANCE` each, a stream that does not drift gives a false alarm on one
day of four at most; windows of few values share most of their block, so there it is rarer. Against a reference of 10,000 values, a
normal distribution that moves by 0.2 of its standard deviation is found before 2,000 values have moved; smaller references are less
sure of themselves and take longer. ``tests/agent/sketches/test_drifting.py`` measures both.
"""

from __future__ import annotations

from collections import deque

import msgspec

from looptap.sketches.binning import Bins
from looptap.sketches.comparing import LEAST_PSI, LEAST_VALUES, homogeneity, population_stability
from looptap.sketches.distribution import Distribution

BLOCK_VALUES = 2_000
CHANCE = 3e-5
#: A drift is over when it has become this part of what raises the alarm.
OVER = 0.5

FIRED, RECOVERED = "fired", "recovered"


class Change(msgspec.Struct, frozen=True):
    """``state``: fired or recovered. ``values``: how many were looked at; ``psi``: by how much they differ."""

    state: str
    values: int
    psi: float
    chance: float


class Drifting:
    """One stream against one reference. Knows no clock and no thread."""

    def __init__(self, reference: Distribution) -> None:
        """``reference`` is not to change any more. One with fewer than 200 values is held against nothing."""
        self.stands = False
        self._bins = Bins(reference)
        self._is_enough = len(reference) >= LEAST_VALUES
        self._windows: deque[list[float]] = deque()
        self._counts = [0.0] * len(self._bins.reference)

    def see(self, window: Distribution) -> Change | None:
        """The next window. What has changed by it: mostly nothing."""
        if not (self._is_enough and len(window)):
            return None
        self._slide(self._bins.counts(window))
        values = round(sum(self._counts))
        if values < LEAST_VALUES:
            return None
        counts, known = self._bins.pooled(self._counts)
        chance, psi = homogeneity(counts, known), population_stability(counts, known).value
        is_wrong = chance <= CHANCE and psi >= LEAST_PSI
        # A block that is not full may be right by the few values that it has.
        is_right = psi < OVER * LEAST_PSI and values >= BLOCK_VALUES
        if not (is_right if self.stands else is_wrong):
            return None
        self.stands = not self.stands
        return Change(FIRED if self.stands else RECOVERED, values, psi, chance)

    def _slide(self, counts: list[float]) -> None:
        self._windows.append(counts)
        self._counts = [sum_ + count for sum_, count in zip(self._counts, counts, strict=True)]
        while sum(self._counts) - sum(self._windows[0]) >= BLOCK_VALUES:
            gone = self._windows.popleft()
            self._counts = [sum_ - count for sum_, count in zip(self._counts, gone, strict=True)]
