"""Where the time of a step goes on the device, at every twentieth step: events with a time, at the marks of the host's clock.

The host only hands work over; when it was done, the device knows. A mark here is an event on the stream that the losses come from,
so a phase lasts from the end of the work before it to the end of its own: the device's idle time is in the phase that it waited in.
Times are read when the last event of a step is done, at some later step; nothing waits for it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any

from looptap_integrations.torch.scalars import Scalars
from looptap_integrations.torch.times import BACKWARD, DATA, FORWARD, OPTIMIZER, OTHER

#: One step in so many is looked at.
EVERY = 20
#: A step of more passes than this is left out: its events would cost more than its times are worth.
_MARKS_LIMIT = 64
_UNDER_WAY_LIMIT = 8

Write = Callable[[dict[str, float], int, int], None]


class Sample:
    """One step: the events so far, each with the phase that it ends."""

    __slots__ = ("marks", "step", "stream", "time_ns")

    def __init__(self, stream: Hashable, first: Any) -> None:
        self.stream = stream
        self.marks: list[tuple[str, Any]] = [("", first)]
        self.step = -1
        self.time_ns = 0


class DeviceTimes:
    def __init__(self, scalars: Scalars, write: Write) -> None:
        """``write`` gets seconds by phase, the step, and the time at which it ended."""
        self._scalars = scalars
        self._write = write
        self._sample: Sample | None = None
        self._free: dict[Hashable, list[Any]] = {}
        self._under_way: deque[Sample] = deque()

    def begin(self) -> DeviceTimes | None:
        """The step that begins now is looked at. None when it cannot be."""
        scalars = self._scalars
        stream = scalars.stream
        if stream is None or scalars.device.is_capturing() or len(self._under_way) >= _UNDER_WAY_LIMIT:
            return None
        self._sample = Sample(stream, self._event(stream))
        return self

    def mark(self, phase: str) -> None:
        """The stretch of time that ends here belongs to this phase."""
        sample = self._sample
        if sample is None:
            return
        if len(sample.marks) >= _MARKS_LIMIT or self._scalars.device.is_capturing():
            self._leave_out(sample)
            return
        sample.marks.append((phase, self._event(sample.stream)))

    def end(self, step: int) -> None:
        """The step is over; this is its number."""
        sample, self._sample = self._sample, None
        if sample is None:
            return
        if sample.stream != self._scalars.stream:
            self._leave_out(sample)  # its work was elsewhere
            return
        sample.step, sample.time_ns = step, time.time_ns()
        self._under_way.append(sample)

    def drain(self) -> None:
        """Write the times of the steps that are done."""
        under_way, scalars = self._under_way, self._scalars
        while under_way and scalars.may_ask():
            sample = under_way[0]
            try:
                if not sample.marks[-1][1].query():
                    return
                seconds = _seconds(sample)
            except RuntimeError:  # a failed device; what that means is said where the numbers come from
                under_way.clear()
                return
            under_way.popleft()
            self._give_back(sample)
            self._write(seconds, sample.step, sample.time_ns)

    def restart(self) -> None:
        """A new run: what was under way is of the one before."""
        self._sample = None
        self._under_way.clear()
        self._free.clear()

    # --- private ------------------------------------------------------------------------------------------------------

    def _event(self, stream: Hashable) -> Any:
        free = self._free.setdefault(stream, [])
        device = self._scalars.device
        event = free.pop() if free else device.event(stream, timing=True)
        device.record(event, stream)
        return event

    def _leave_out(self, sample: Sample) -> None:
        self._sample = None
        self._give_back(sample)

    def _give_back(self, sample: Sample) -> None:
        self._free.setdefault(sample.stream, []).extend(event for _, event in sample.marks)


def _seconds(sample: Sample) -> dict[str, float]:
    seconds = dict.fromkeys((DATA, FORWARD, BACKWARD, OPTIMIZER, OTHER), 0.0)
    marks = sample.marks
    for (_, before), (phase, event) in zip(marks, marks[1:], strict=False):
        seconds[phase] += before.elapsed_time(event) / 1e3
    return {f"device_{key}": value for key, value in seconds.items()}
