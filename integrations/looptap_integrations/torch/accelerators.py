"""What we ask of an accelerator, and nothing else: pinned memory, the stream under way, events, and whether a graph is captured.

This is the lowest layer. Where there is no accelerator, a test puts a stand-in in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Protocol

import torch


class Event(Protocol):
    def query(self) -> bool:
        """Whether everything that was queued before it is done. Never waits."""


class TimingEvent(Event, Protocol):
    def elapsed_time(self, end: Any) -> float:
        """Milliseconds from this event to ``end``. Only once both are done."""


class Device(Protocol):
    def is_supported(self, tensor: torch.Tensor) -> bool:
        """Whether the number in this tensor can be had without a wait."""

    def memory(self, size_bytes: int) -> torch.Tensor:
        """Host memory, as bytes, that the device writes to by itself. Called once."""

    def stream(self, tensor: torch.Tensor) -> Hashable:
        """The stream that work on this tensor is queued on by this thread, as a key."""

    def event(self, stream: Hashable, timing: bool = False) -> Any:
        """A new event for the device of this stream, not recorded yet. Without timing it is an :class:`Event`, else a
        :class:`TimingEvent`."""

    def record(self, event: Any, stream: Hashable) -> None:
        """The event comes after all that is queued on the stream by now."""

    def is_capturing(self) -> bool:
        """Whether what this thread queues is not done but becomes part of a graph."""


class Accelerator:
    """The real one: CUDA, ROCm (which calls itself CUDA), XPU. There a copy into pinned memory is queued behind the program's own
    work, with events that can be asked. Asking elsewhere (a lazy tensor of XLA, say) may start work or wait for it."""

    def __init__(self) -> None:
        self._module: Any = None
        self._raw_stream: Callable[[int], int] | None = None
        self._is_capturing: Callable[[], bool] = lambda: False
        self._streams: dict[Hashable, Any] = {}

    def is_supported(self, tensor: torch.Tensor) -> bool:
        if not (tensor.is_cuda or tensor.is_xpu):
            return False
        if self._module is None:
            kind = tensor.device.type
            self._module = getattr(torch, kind)  # torch.get_device_module() came with 2.5
            # A third of the time of current_stream(), which makes an object.
            self._raw_stream = getattr(torch._C, f"_{kind}_getCurrentRawStream", None)
            self._is_capturing = getattr(self._module, "is_current_stream_capturing", self._is_capturing)
        return True

    def memory(self, size_bytes: int) -> torch.Tensor:
        return torch.empty(size_bytes, dtype=torch.uint8, device="cpu", pin_memory=True)

    def stream(self, tensor: torch.Tensor) -> Hashable:
        index = tensor.get_device()
        if self._raw_stream is None:
            stream = self._module.current_stream(index)
            self._streams[stream] = stream
            return stream  # type: ignore[no-any-return]
        key = (index, self._raw_stream(index))
        if key not in self._streams:
            self._streams[key] = self._module.current_stream(index)
        return key

    def event(self, stream: Hashable, timing: bool = False) -> Any:
        return self._module.Event(enable_timing=timing)

    def record(self, event: Any, stream: Hashable) -> None:
        event.record(self._streams[stream])

    def is_capturing(self) -> bool:
        return self._is_capturing()
