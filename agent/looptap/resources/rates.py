"""Counters that only grow, as rates.

Time is that of :func:`time.monotonic`: a clock that is set does not touch it, and on Linux and macOS it stands still while the
machine sleeps, as the counters do. So the first sample after a suspend is like any other.
"""

from __future__ import annotations

#: Processor time is counted in hundredths of a second: over less than this a rate says nothing.
SHORTEST_SECONDS = 0.09


class Rates:
    """How much each counter grows per second, from one call of :meth:`of` to the next."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[float, float]] = {}

    def of(self, name: str, count: float | None, now: float) -> float | None:
        """None at the first time, where the counter has jumped back (it wrapped, its device was reset), and too soon after the last
        time; then the next rate is from there."""
        if count is None:
            return None
        before = self._before.get(name)
        if before is not None and now - before[1] < SHORTEST_SECONDS:
            return None
        self._before[name] = count, now
        if before is None or count < before[0]:
            return None
        return (count - before[0]) / (now - before[1])


def known(values: dict[str, float | None]) -> dict[str, float]:
    """What is not None, as floats."""
    return {name: float(value) for name, value in values.items() if value is not None}
