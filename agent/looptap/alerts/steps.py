"""A training that makes no more steps."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from looptap.alerts.latch import CRITICAL, FIRED, RECOVERED, Change

#: No step for so many times the median time of a step, …
STALL_TIMES = 10.0
#: … nor for twice the longest pause that the training has made before (a checkpoint, a validation that nobody knows to be one),
#: as far as that is not longer than this …
STALL_PAUSES = 2.0
STALL_LONGEST_PAUSE_SECONDS = 1_800.0
#: … nor for so long; in a validation pass that is known to be one, for so long.
STALL_FLOOR_SECONDS = 60.0
STALL_FLOOR_IN_VALIDATION_SECONDS = 1_800.0
_STEPS = 101


class Stall:
    """Fires when no step has come for too long, recovers with the next one. Before the second step nobody knows how long one
    takes."""

    kind = "stall"

    def __init__(self) -> None:
        self._last: tuple[int, float] | None = None
        self._arrived = 0.0
        self._stands = False
        self._longest_pause = 0.0
        self._seconds: deque[float] = deque(maxlen=_STEPS)

    @property
    def last_step(self) -> int:
        return -1 if self._last is None else self._last[0]

    @property
    def last_time(self) -> float:
        return 0.0 if self._last is None else self._last[1]

    def step(self, step: int, time: float, arrived: float) -> Change | None:
        """A later step than all before was made at ``time``; we heard of it at ``arrived``, by the clock of :meth:`look`."""
        last, self._last = self._last, (step, time)
        pause = arrived - self._arrived
        self._arrived = arrived
        if last is None:
            return None
        self._seconds.append(max(0.0, (time - last[1]) / (step - last[0])))
        self._longest_pause = max(self._longest_pause, pause)
        if not self._stands:
            return None
        self._stands = False
        return Change(self.kind, CRITICAL, RECOVERED, f"step {step} came after {pause:.0f} s", None, pause, None, step)

    def limit(self, *, is_validating: bool = False) -> float | None:
        """Seconds without a step that are too many; None when nobody can tell yet."""
        if not self._seconds:
            return None
        median = sorted(self._seconds)[len(self._seconds) // 2]
        pause = min(self._longest_pause, STALL_LONGEST_PAUSE_SECONDS)
        floor = STALL_FLOOR_IN_VALIDATION_SECONDS if is_validating else STALL_FLOOR_SECONDS
        return max(floor, STALL_TIMES * median, STALL_PAUSES * pause)

    def look(
        self, now: float, *, is_validating: bool = False, where: Callable[[], str | None] = lambda: ""
    ) -> Change | None:
        """``where`` is asked when it is too long: where the training is, in words that go behind the others, or None when it is
        over and makes no steps for that."""
        limit = self.limit(is_validating=is_validating)
        if limit is None or self._stands or now - self._arrived <= limit or (place := where()) is None:
            return None
        self._stands = True
        since = now - self._arrived
        said = f"no step for {since:.0f} s, since step {self.last_step}{place}"
        return Change(self.kind, CRITICAL, FIRED, said, None, since, limit, self.last_step)
