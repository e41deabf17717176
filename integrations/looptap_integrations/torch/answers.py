"""What a served or evaluated model answers on a device, and how long the device took: fetched and timed without a wait.

Some rows of an answer are copied into pinned memory behind the program's own work, with an event behind the copies; the program's
threads ask that event later. A call is timed by two events around its work on the stream of its answer.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import torch

from looptap.serving.devices import Later
from looptap_integrations.torch.scalars import Scalars

#: Pinned memory: so many places of this size. An answer of longer rows has no room.
PLACES = 128
PLACE_BYTES = 2**15
_DTYPES = frozenset(
    (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool, torch.uint8, torch.int32, torch.int64)
)


class Copy(NamedTuple):
    later: Later
    place: int
    memory: torch.Tensor
    #: Until it has been copied: its memory may belong to another stream than the copy.
    source: torch.Tensor


class Mark:
    __slots__ = ("_answers", "ended", "started", "stream")

    def __init__(self, answers: DeviceAnswers, stream: Hashable) -> None:
        self._answers = answers
        self.stream = stream
        self.started = answers.event(stream, timing=True)
        self.ended: Any = None

    def end(self) -> None:
        self.ended = self._answers.event(self.stream, timing=True)


class Waiting:
    def __init__(self, answers: DeviceAnswers, stream: Hashable, copies: list[Copy], mark: Mark | None) -> None:
        self._answers = answers
        self._stream = stream
        self._copies = copies
        # Of another stream than the answer, it says nothing of the call.
        self._mark = mark if mark is not None and mark.stream == stream and mark.ended is not None else None
        self._event = answers.event(stream)

    def is_done(self) -> bool:
        if not self._answers.scalars().may_ask():
            return False
        try:
            return bool(self._event.query())
        except RuntimeError:  # a failed device, or a graph under capture that we cannot see
            return False

    def take(self) -> int:
        for later, place, memory, _ in self._copies:
            later.value = memory.tolist()
            self._answers.free.append(place)
        mark = self._mark
        took = 0 if mark is None else int(mark.started.elapsed_time(mark.ended) * 1e6)
        self._answers.give_back(self._stream, self._event, mark)
        return took

    def leave(self) -> None:
        self._answers.left.append(self)


class DeviceAnswers:
    """As :class:`looptap.serving.devices.Fetching` says."""

    def __init__(self, scalars: Callable[[], Scalars]) -> None:
        """``scalars`` knows the device, and whether it can be asked now."""
        self.scalars = scalars
        self.free = deque(range(PLACES))
        #: What nobody asks for any more, and has a place yet.
        self.left: deque[Waiting] = deque()
        self._memory: torch.Tensor | None = None
        self._mine = threading.local()
        #: That something was fetched from.
        self._streams: set[Hashable] = set()
        #: By stream and whether they have a time.
        self._events: dict[tuple[Hashable, bool], deque[Any]] = {}

    def begin(self, place: Any) -> Mark | None:
        # A place that is not known is of an agent that was stopped since.
        if place not in self._streams or self.scalars().device.is_capturing():
            return None
        return Mark(self, place)

    def fetch(self, tensor: torch.Tensor, rows: int, step: int) -> Later | None:
        scalars = self.scalars()
        device = scalars.device
        if tensor.dtype not in _DTYPES or tensor.layout is not torch.strided or tensor.is_neg() or tensor.is_meta:
            return None
        size = tensor.element_size() * (tensor.numel() // max(1, tensor.shape[0]) * rows if tensor.dim() else 1)
        if size > PLACE_BYTES or not device.is_supported(tensor) or device.is_capturing():
            return None
        if self._memory is None:
            if scalars.captures:  # another thread's, which an allocation would break
                return None
            self._memory = device.memory(PLACES * PLACE_BYTES)
        self._collect()
        try:
            place = self.free.popleft()
        except IndexError:
            return None
        source = tensor.detach()
        if tensor.dim():
            source = source[::step]
        start = place * PLACE_BYTES
        memory = self._memory[start : start + size].view(tensor.dtype).view(source.shape)
        memory.copy_(source, non_blocking=True)
        later = Later(rows)
        mine = self._mine
        if getattr(mine, "copies", None) is None:
            mine.copies = []
        mine.copies.append(Copy(later, place, memory, source))
        mine.stream = device.stream(tensor)
        self._streams.add(mine.stream)
        return later

    def seal(self, mark: Any) -> tuple[Waiting, Any] | None:
        copies = getattr(self._mine, "copies", None)
        if copies is None:
            return None
        self._mine.copies = None
        stream = self._mine.stream
        return Waiting(self, stream, copies, mark), stream

    def _collect(self) -> None:
        while self.left:
            try:
                waiting = self.left.popleft()
            except IndexError:  # another thread was faster
                return
            if not waiting.is_done():
                self.left.appendleft(waiting)
                return
            waiting.take()

    # --- for marks and what waits -------------------------------------------------------------------------------------

    def event(self, stream: Hashable, timing: bool = False) -> Any:
        """One that comes after all that is queued on the stream by now."""
        free, device = self._events.get((stream, timing)), self.scalars().device
        try:
            event = free.popleft() if free else device.event(stream, timing)
        except IndexError:  # another thread was faster
            event = device.event(stream, timing)
        device.record(event, stream)
        return event

    def give_back(self, stream: Hashable, event: Any, mark: Mark | None) -> None:
        self._events.setdefault((stream, False), deque()).append(event)
        if mark is not None:
            self._events.setdefault((stream, True), deque()).extend((mark.started, mark.ended))
