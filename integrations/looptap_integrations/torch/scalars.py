"""The number in a one-element tensor, without ever waiting for a device.

On the CPU it is read at once (0.2 µs). Elsewhere a copy into pinned memory is queued behind the program's own work, with an
event behind it; a later step, or the end of the run, finds the event done and reads the number then. Nothing here calls
``.item()`` on a device tensor, ``.cpu()`` or a synchronise.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import torch

Emit: TypeAlias = Callable[[dict[str, float]], None]
_BLOCK = 256


class Reading:
    """A number that a device still owes us; readings and floats add up, from left to right."""

    __slots__ = ("_parts",)

    def __init__(self, parts: tuple[Slot | Quotient | float, ...]) -> None:
        self._parts = parts

    @classmethod
    def of(cls, value: Reading | float) -> Reading:
        return value if isinstance(value, Reading) else cls((value,))

    def __add__(self, other: Reading | float) -> Reading:
        return Reading((*self._parts, *(other._parts if isinstance(other, Reading) else (other,))))

    def __radd__(self, other: float) -> Reading:
        return Reading((other, *self._parts))

    def __truediv__(self, other: Reading | float) -> Reading:
        return Reading((Quotient(self, Reading.of(other)),))

    def is_ready(self) -> bool:
        return all(isinstance(part, float) or part.is_ready() for part in self._parts)

    def value(self) -> float:
        """The number, in float64. Only after :meth:`is_ready`."""
        numbers = [part if isinstance(part, float) else part.take() for part in self._parts]
        total = numbers[0]
        for number in numbers[1:]:
            total += number
        return total


Scalar: TypeAlias = "float | Reading"


class Quotient:
    __slots__ = ("_above", "_below")

    def __init__(self, above: Reading, below: Reading) -> None:
        self._above = above
        self._below = below

    def is_ready(self) -> bool:
        return self._above.is_ready() and self._below.is_ready()

    def take(self) -> float:
        return self._above.value() / self._below.value()


class Slot:
    """One place in pinned memory, and the event after which it holds the number."""

    __slots__ = ("_event", "_free", "_memory", "_number")

    def __init__(self, memory: Any, event: Any, free: list[Any]) -> None:
        self._memory = memory
        self._event = event
        self._free = free
        self._number: float | None = None

    def is_ready(self) -> bool:
        return self._number is not None or bool(self._event.query())

    def take(self) -> float:
        if self._number is None:
            self._number = float(self._memory.item())
            self._free.append(self._memory)
            self._memory = self._event = None
        return self._number


class Device(Protocol):
    """What copying from an accelerator needs: the one thing that a test replaces where there is none."""

    def memory(self, count: int, dtype: torch.dtype) -> torch.Tensor:
        """``count`` elements of host memory that the device writes to directly."""

    def event(self, tensor: torch.Tensor) -> Any:
        """An event recorded now on the stream that the tensor's work is queued on; it has ``query()``."""

    def is_capturing(self, tensor: torch.Tensor) -> bool:
        """Whether work is being recorded for later (a CUDA graph): there is no number yet."""


class Accelerator:
    """The real one: CUDA, ROCm, XPU."""

    def memory(self, count: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.empty(count, dtype=dtype, device="cpu", pin_memory=True)

    def event(self, tensor: torch.Tensor) -> Any:
        module = torch.get_device_module(tensor.device)
        event = module.Event()
        event.record(module.current_stream(tensor.device))
        return event

    def is_capturing(self, tensor: torch.Tensor) -> bool:
        return tensor.is_cuda and torch.cuda.is_current_stream_capturing()


class Scalars:
    def __init__(self, device: Device | None = None) -> None:
        self._device = device or Accelerator()
        self._free: dict[torch.dtype, list[torch.Tensor]] = {}
        #: True once a value had to be fetched from a device.
        self.has_device = False
        self._waiting: deque[tuple[dict[str, Scalar], Emit]] = deque()

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
        """Call ``emit`` with the numbers once all of them are there; in the order of these calls."""
        self._waiting.append((values, emit))

    def drain(self) -> None:
        """Hand out what is ready. Costs next to nothing when nothing waits."""
        waiting = self._waiting
        while waiting:
            values, emit = waiting[0]
            if not all(isinstance(value, float) or value.is_ready() for value in values.values()):
                return
            waiting.popleft()
            emit({name: value.value() if isinstance(value, Reading) else value for name, value in values.items()})

    def finish(self, seconds: float) -> int:
        """Hand out the rest as it becomes ready, for this long at most. Returns how many never did."""
        deadline = time.monotonic() + seconds
        self.drain()
        while self._waiting and time.monotonic() < deadline:
            time.sleep(0.001)
            self.drain()
        lost = len(self._waiting)
        self._waiting.clear()
        return lost

    @property
    def is_waiting(self) -> bool:
        return bool(self._waiting)

    def _queue(self, tensor: torch.Tensor) -> Reading | None:
        device = self._device
        if tensor.numel() != 1 or tensor.is_complex() or tensor.layout is not torch.strided or tensor.is_meta:
            return None
        if device.is_capturing(tensor):
            return None
        self.has_device = True
        free = self._free.setdefault(tensor.dtype, [])
        if not free:
            free.extend(device.memory(_BLOCK, tensor.dtype).unbind())
        memory = free.pop()
        with torch.no_grad():
            memory.copy_(tensor.detach().reshape(()), non_blocking=True)
        return Reading((Slot(memory, device.event(tensor), free),))


def _is_plain(tensor: Any) -> bool:
    """Subclasses with an own ``__torch_dispatch__`` (DTensor, fake tensors) answer a read with work, even with a wait for
    other machines; all others hold their number themselves."""
    kind = type(tensor)
    return issubclass(kind, torch.Tensor) and kind.__torch_dispatch__ is torch.Tensor.__torch_dispatch__


def _real(value: object) -> float | None:
    return float(value) if isinstance(value, (bool, int)) else None
