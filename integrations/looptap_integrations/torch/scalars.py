"""The number in a one-element tensor, without ever waiting for a device.

On the CPU it is read at once (0.2 µs). Elsewhere a copy into a ring of pinned memory is queued behind the program's own work, and
one event behind all copies that are written together. Later calls of the training ask the oldest event whether it is done, and if
so take the numbers out of the ring. Nothing here calls ``.item()`` on a device tensor, ``.cpu()`` or a synchronise; nothing here
waits for room either: where the ring is full the value is lost, and counted.

Only threads that train ask the device, never one of ours: an event that is queried anywhere in the process breaks a graph that is
being captured (decision 0018).
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, TypeAlias

import torch

from looptap_integrations.torch.accelerators import Accelerator, Device
from looptap_integrations.torch.readings import Owed, Reading, Scalar

__all__ = ["Reading", "Scalar", "Scalars"]

Emit: TypeAlias = Callable[[dict[str, float]], None]
#: A device is at most about a thousand kernels behind the program, and a step is more than one kernel.
PLACES = 1024
_PLACE_BYTES = 8
#: Copies that wait for the end of their step get an event of their own from this number on: accumulation over many passes.
_TOGETHER = 64
#: Writes whose numbers are under way. More than places, since a write can rest on one place or on none.
_WRITES_LIMIT = 2 * PLACES
#: A source of this size is kept until it has been copied: its memory may belong to another stream than the copy.
_KEPT_BYTES = 4096
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_DTYPES = frozenset((*_FLOATS, torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64))


class Copy(NamedTuple):
    owed: Owed
    place: int
    memory: torch.Tensor
    source: torch.Tensor | None


class Ring:
    """Pinned memory of fixed size whose places are handed out in turn."""

    def __init__(self, memory: torch.Tensor) -> None:
        self._memory = memory
        self._free = deque(range(PLACES))
        self._views: dict[torch.dtype, list[torch.Tensor | None]] = {}

    def take(self, dtype: torch.dtype) -> tuple[int, torch.Tensor] | None:
        """A place and its memory; None when all of them are in use."""
        try:
            place = self._free.popleft()
        except IndexError:
            return None
        views = self._views.get(dtype)
        if views is None:
            views = self._views[dtype] = [None] * PLACES
        view = views[place]
        if view is None:
            start = place * _PLACE_BYTES
            with torch.inference_mode(False):  # else the view of a validation can be written to in validations only
                view = views[place] = self._memory[start : start + _PLACE_BYTES].view(dtype)[0]
        return place, view

    def give_back(self, place: int) -> None:
        self._free.append(place)


class Scalars:
    """Any thread may read; the numbers are handed out by whichever thread comes by, in the order of :meth:`later`."""

    def __init__(
        self,
        device: Device | None = None,
        drop: Callable[[str, int], None] = lambda reason, count: None,
        note: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        """``drop`` is told how many values were lost and why, ``note`` what can never be read, in one sentence."""
        self.device = device or Accelerator()
        self._drop = drop
        self._note = note
        #: True once a value had to be fetched from a device.
        self.has_device = False
        #: How many graphs are being captured, by whichever thread: no event may be asked then.
        self.captures = 0
        self._renew()

    def _renew(self) -> None:
        self._process = os.getpid()
        self.has_device = False
        #: The stream that the last number came from.
        self.stream: Hashable = None
        self._is_broken = False
        self._ring: Ring | None = None
        self._events: dict[Hashable, list[Any]] = {}
        #: Copies without an event behind them, by stream.
        self._open: dict[Hashable, list[Copy]] = {}
        self._under_way: deque[tuple[Any, Hashable, list[Copy]]] = deque()
        self._waiting: deque[tuple[dict[str, Scalar], Emit]] = deque()
        # Held for two operations on a dict at most, never across a call of the device.
        self._opening = threading.Lock()
        # Only tried for: somebody else is taking the numbers out already.
        self._taking = threading.Lock()

    def restart(self) -> None:
        """A new run. In a forked child there is no device: what the parent had under way is the parent's."""
        self._waiting.clear()
        if self._process != os.getpid():
            self._renew()

    def read(self, tensor: Any) -> Scalar | None:
        """The tensor's number, or a reading of it; None when there is none to be had (several elements, complex, a
        tensor spread over machines, a graph under capture)."""
        if type(tensor) is not torch.Tensor:
            if not _is_plain(tensor):
                return None
            with torch._C.DisableTorchFunctionSubclass():
                tensor = tensor.detach().as_subclass(torch.Tensor)
        if not tensor.is_cpu:
            return self._queue(tensor)
        try:
            value = tensor.item()
        except (RuntimeError, NotImplementedError):  # several elements, or a layout that has none
            return None
        return value if type(value) is float else _real(value)

    def later(self, values: dict[str, Scalar], emit: Emit) -> None:
        """Call ``emit`` with the numbers once all of them are there; in the order of these calls. Those that were lost are left
        out, and it is not called when all of them were. Without any values it is called when all that comes before it has been."""
        self._seal()
        waiting = self._waiting
        if len(waiting) >= _WRITES_LIMIT:
            self._make_room()
        waiting.append((values, emit))

    def drain(self) -> None:
        """Hand out what is ready. Costs next to nothing when nothing waits."""
        if not (self._under_way or self._waiting) or not self._taking.acquire(blocking=False):
            return
        try:
            self._take()
            self._hand_out()
        finally:
            self._taking.release()

    def finish(self, seconds: float) -> int:
        """Hand out the rest as it becomes ready, for this long at most. Returns how many values never did."""
        deadline = time.monotonic() + seconds
        self._seal()
        self.drain()
        while self._waiting and not self._is_broken and time.monotonic() < deadline:
            time.sleep(0.001)
            self.drain()
        lost = 0
        while self._waiting:
            lost += len(self._waiting.popleft()[0])
        if lost:
            self._drop("device_behind", lost)
        return lost

    def may_ask(self) -> bool:
        """Whether an event can be asked now without harm to a graph under capture, and has an answer."""
        return not (self.captures or self._is_broken or self.device.is_capturing())

    @property
    def is_waiting(self) -> bool:
        return bool(self._waiting)

    # --- private ------------------------------------------------------------------------------------------------------

    def _queue(self, tensor: torch.Tensor) -> Reading | None:
        if tensor.numel() != 1 or tensor.dtype not in _DTYPES or tensor.layout is not torch.strided or tensor.is_meta:
            return None
        # A number behind a bit that negates it would be negated in our memory before it has arrived there.
        if tensor.is_neg() or not self._can_read(tensor):
            return None
        device = self.device
        if device.is_capturing():
            return None
        ring = self._ring
        if ring is None:
            if self.captures:  # another thread's, which an allocation would break
                return None
            ring = self._ring = Ring(device.memory(PLACES * _PLACE_BYTES))
            self.has_device = True
        owed = Owed()
        taken = None if self._is_broken else ring.take(tensor.dtype)
        if taken is None:
            owed.settle(None)
            return Reading((owed,))
        place, memory = taken
        source = tensor.detach()
        memory.copy_(source if source.dim() == 0 else source.reshape(()), non_blocking=True)
        self.stream = stream = device.stream(tensor)
        kept = source if source.untyped_storage().nbytes() <= _KEPT_BYTES else None
        with self._opening:
            copies = self._open.setdefault(stream, [])
            copies.append(Copy(owed, place, memory, kept))
        if len(copies) >= _TOGETHER:
            self._seal()
        return Reading((owed,))

    def _can_read(self, tensor: torch.Tensor) -> bool:
        if self.device.is_supported(tensor):
            return True
        self._note(f"values on {tensor.device.type} are left out: they cannot be read there without a wait")
        return False

    def _seal(self) -> None:
        """Put one event behind all copies that have none, one for each stream that they are on."""
        if not self._open or self.device.is_capturing():
            return
        with self._opening:
            opened, self._open = self._open, {}
        for stream, copies in opened.items():
            free = self._events.setdefault(stream, [])
            event = free.pop() if free else self.device.event(stream)
            self.device.record(event, stream)
            self._under_way.append((event, stream, copies))

    def _take(self) -> None:
        """The numbers of all copies that are done, out of the ring."""
        under_way, ring = self._under_way, self._ring
        if not under_way or ring is None or not self.may_ask():
            return
        while under_way:
            event, stream, copies = under_way[0]
            try:
                is_done = event.query()
            except RuntimeError as error:
                # Either a graph is being captured by somebody we cannot see, or the program's own work has failed, as it will be
                # told: then nothing will be done any more on this device.
                if "captur" not in str(error):
                    self._fail(error)
                return
            if not is_done:
                return
            under_way.popleft()
            for owed, place, memory, _ in copies:
                owed.settle(float(memory.item()))
                ring.give_back(place)
            self._events[stream].append(event)

    def _fail(self, error: RuntimeError) -> None:
        self._is_broken = True
        self._note(f"values from the device are left out from here on: {str(error).strip().splitlines()[0][:200]}")
        for _, _, copies in self._under_way:
            for copied in copies:
                copied.owed.settle(None)
        self._under_way.clear()

    def _make_room(self) -> None:
        if self._taking.acquire(blocking=False):
            try:
                lost, _ = self._waiting.popleft()
            finally:
                self._taking.release()
            self._drop("device_behind", len(lost))

    def _hand_out(self) -> None:
        waiting = self._waiting
        while waiting:
            values, emit = waiting[0]
            if not all(isinstance(value, float) or value.is_settled for value in values.values()):
                return
            waiting.popleft()
            numbers: dict[str, float] = {}
            for name, value in values.items():
                number = value if isinstance(value, float) else value.number
                if number is not None:
                    numbers[name] = number
            if len(numbers) < len(values):
                self._drop("device_failed" if self._is_broken else "device_behind", len(values) - len(numbers))
            if numbers or not values:
                emit(numbers)


def _is_plain(tensor: Any) -> bool:
    """Subclasses with an own ``__torch_dispatch__`` (DTensor, fake tensors) answer a read with work, even with a wait for
    other machines; all others hold their number themselves."""
    kind = type(tensor)
    return issubclass(kind, torch.Tensor) and kind.__torch_dispatch__ is torch.Tensor.__torch_dispatch__


def _real(value: object) -> float | None:
    return float(value) if isinstance(value, (bool, int)) else None
