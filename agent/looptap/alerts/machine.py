"""What is wrong with the machine: memory or a disk fills, a GPU has nothing to do."""

from __future__ import annotations

import math
from collections import deque

from looptap.alerts.latch import CRITICAL, FIRED, WARNING, Change, Latch

#: A GPU below this share of its time (percent) does nothing; for so long, and it is worth a word.
IDLE_PERCENT = 5.0
IDLE_SECONDS = 300.0
#: Busy for so long at this share, and it has recovered.
BUSY_PERCENT = 20.0
BUSY_SECONDS = 30.0
#: What is full by its share has room enough all the same when so many bytes are left.
ROOM_ON_DISK = 10 * 2**30
ROOM_IN_MEMORY = 4 * 2**30
#: Samples further apart than this say nothing of the time between: the machine slept, or the driver did not answer.
GAP_SECONDS = 60.0


class Filling:
    """Something fills: it is at ``full`` percent, or from ``from_percent`` on it would be full within ``horizon`` seconds if it
    went on as in the last ``window`` seconds. It has recovered when it has been below ``clear`` percent for half a minute."""

    CLEAR_SECONDS = 30.0

    def __init__(
        self,
        kind: str,
        what: str,
        key: str,
        *,
        full: float,
        clear: float,
        from_percent: float,
        horizon: float,
        window: float,
        enough: float = math.inf,
    ) -> None:
        """``enough`` bytes of :attr:`room` are no reason to worry; where nobody tells the room, the share alone counts."""
        self.kind = kind
        self._what = what
        self._key = key
        self.full = full
        self.clear = clear
        self.from_percent = from_percent
        self.horizon = horizon
        self._window = window
        self._enough = enough
        #: Bytes that are left, if that is known.
        self.room: float | None = None
        self._samples: deque[tuple[float, float]] = deque()
        self._latch = Latch(0.0, self.CLEAR_SECONDS)

    def see(self, percent: float, time: float) -> Change | None:
        left = self._seconds_left(percent, time)
        is_soon = left is not None and left <= self.horizon and percent >= self.from_percent
        has_room = self.room is not None and self.room >= self._enough
        is_full = percent >= self.full and not has_room
        is_right = (percent < self.clear or has_room) and not is_soon
        state = self._latch.see(time, is_wrong=is_full or is_soon, is_right=is_right)
        if state is None:
            return None
        said = f"{self._what} is {percent:.1f} % full"
        if state == FIRED and percent < self.full and left is not None:
            said += f", and would be full in {left:.0f} s at this rate"
        return Change(self.kind, CRITICAL, state, said, self._key, percent, self.full)

    def _seconds_left(self, percent: float, time: float) -> float | None:
        """None where it does not grow, or has not been looked at for long enough."""
        samples = self._samples
        if samples and not 0 <= time - samples[-1][0] <= GAP_SECONDS:
            samples.clear()
        samples.append((time, percent))
        while time - samples[0][0] > self._window:
            samples.popleft()
        first_time, first_percent = samples[0]
        if time - first_time < self._window / 2 or percent <= first_percent:
            return None
        return (100.0 - percent) * (time - first_time) / (percent - first_percent)


def memory_of_container(key: str) -> Filling:
    """The kernel kills at the limit, and what fills a container fills it fast."""
    return Filling(
        "memory", "the memory of the container", key, full=95, clear=90, from_percent=80, horizon=120, window=60
    )


def memory_of_host(key: str) -> Filling:
    return Filling(
        "memory",
        "the memory of the machine",
        key,
        full=95,
        clear=90,
        from_percent=80,
        horizon=120,
        window=60,
        enough=ROOM_IN_MEMORY,
    )


def disk(key: str) -> Filling:
    return Filling(
        "disk",
        "the disk of the working directory",
        key,
        full=98,
        clear=95,
        from_percent=80,
        horizon=600,
        window=300,
        enough=ROOM_ON_DISK,
    )


class IdleDevices:
    """GPUs that this run has used and that do nothing. One that it never used is worth a word only where it uses none at all."""

    kind = "gpu_idle"

    def __init__(self) -> None:
        self._latches: dict[str, Latch] = {}
        self._seen_at: dict[str, float] = {}
        self._used: set[str] = set()

    def uses(self, device: str) -> None:
        """The run has memory on this one."""
        self._used.add(device)

    def see(self, device: str, percent: float, time: float) -> Change | None:
        latch = self._latches.setdefault(device, Latch(IDLE_SECONDS, BUSY_SECONDS))
        if not 0 <= time - self._seen_at.get(device, time) <= GAP_SECONDS:
            latch.lost_sight()
        self._seen_at[device] = time
        if percent >= IDLE_PERCENT:
            self._used.add(device)
        # Of those that are not used the first one speaks for all.
        is_ours = device in self._used or (not self._used and device == min(self._latches))
        state = latch.see(time, is_wrong=percent < IDLE_PERCENT and is_ours, is_right=percent >= BUSY_PERCENT)
        if state is None:
            return None
        if state != FIRED:
            said = f"GPU {device} is busy again"
        elif device in self._used:
            said = f"GPU {device} has been idle for {IDLE_SECONDS / 60:.0f} minutes (below {IDLE_PERCENT:.0f} %)"
        else:
            said = f"no GPU is used: {len(self._latches)} that this run sees, idle for {IDLE_SECONDS / 60:.0f} minutes"
        key = f"system.gpu.{device}.utilization"
        return Change(self.kind, WARNING, state, said, key, percent, IDLE_PERCENT)
