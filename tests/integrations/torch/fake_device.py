"""A device that does its work when the test says so: streams, events, pinned memory and graph capture, at the lowest layer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from integrations.recording import Recording, recorded
from looptap_integrations.torch import TorchIntegration
from looptap_integrations.torch.scalars import Reading, Scalar, Scalars


class Pinned(torch.Tensor):
    """Host memory that a copy reaches when the stream gets there, as with a real device."""

    device_of: FakeDevice

    def copy_(self, source: Any, non_blocking: bool = False) -> Any:
        assert non_blocking, "this would wait for the device"
        self.device_of.queue(lambda: torch.Tensor.copy_(self, source))
        return self


class FakeEvent:
    def __init__(self, device: FakeDevice, timing: bool) -> None:
        self.device = device
        self.timing = timing
        self.is_done = True
        self.records = 0
        self.time = 0.0

    def query(self) -> bool:
        device = self.device
        assert not device.captured_by, "this breaks the graph under capture"
        device.queries += 1
        if device.error:
            raise RuntimeError(device.error)
        return self.is_done

    def elapsed_time(self, end: FakeEvent) -> float:
        assert all((self.timing, end.timing, self.is_done, end.is_done)), "this raises on a real device"
        return (end.time - self.time) * 1e3


class FakeDevice:
    """Work is queued on the current stream and done by :meth:`run`. ``clock`` is the device's, in seconds."""

    def __init__(self) -> None:
        self.current: Hashable = 0
        self.streams: dict[Hashable, list[Callable[[], object]]] = {}
        self.events: list[FakeEvent] = []
        self.queries = 0
        self.allocations: list[int] = []
        self.captured_by: set[int] = set()
        self.supported = True
        self.error = ""
        self.clock = 0.0
        self.read = 0
        self._memory = type("Pinned", (Pinned,), {"device_of": self})

    def queue(self, work: Callable[[], object], stream: Hashable = None) -> None:
        assert not self.is_capturing(), "this would become part of the graph"
        self.streams.setdefault(self.current if stream is None else stream, []).append(work)

    def run(self, count: int | None = None, stream: Hashable = None) -> None:
        """Do all work, or so many pieces of it, of one stream or of all of them."""
        for name, works in self.streams.items():
            if stream is None or name == stream:
                for work in works[:count]:
                    work()
                del works[:count]

    def work(self, seconds: float) -> None:
        """The program hands over work that takes so long."""

        def pass_time() -> None:
            self.clock += seconds

        self.queue(pass_time)

    def capture(self, is_on: bool) -> None:
        me = threading.get_ident()
        self.captured_by.add(me) if is_on else self.captured_by.discard(me)

    # --- what looptap asks of it --------------------------------------------------------------------------------------

    def is_supported(self, tensor: torch.Tensor) -> bool:
        return self.supported

    def memory(self, size_bytes: int) -> torch.Tensor:
        assert not self.captured_by, "an allocation breaks the graph under capture"
        self.allocations.append(size_bytes)
        # Other bits than a number's: who reads too early reads nonsense.
        return torch.full((size_bytes,), 0xA5, dtype=torch.uint8).as_subclass(self._memory)

    def stream(self, tensor: torch.Tensor) -> Hashable:
        return self.current

    def event(self, stream: Hashable, timing: bool = False) -> Any:
        self.events.append(FakeEvent(self, timing))
        return self.events[-1]

    def record(self, event: FakeEvent, stream: Hashable) -> None:
        event.is_done = False
        event.records += 1

        def done() -> None:
            event.is_done, event.time = True, self.clock

        self.queue(done, stream)

    def is_capturing(self) -> bool:
        return threading.get_ident() in self.captured_by


class ScalarsOnDevice(Scalars):
    """As if every tensor were on the device."""

    def read(self, tensor: Any) -> Scalar | None:
        if isinstance(tensor, torch.Tensor) and tensor.is_cpu:
            return self._queue(tensor)
        return super().read(tensor)


def queue(scalars: Scalars, value: float, dtype: torch.dtype = torch.float32) -> Reading:
    """As if the tensor were on the device."""
    reading = scalars._queue(torch.tensor(value, dtype=dtype, requires_grad=dtype.is_floating_point))
    assert reading is not None
    return reading


@contextmanager
def on_device() -> Iterator[tuple[Recording, FakeDevice, TorchIntegration]]:
    """looptap takes every tensor for one on the device."""
    device = FakeDevice()
    kept: list[TorchIntegration] = []

    class OnDevice(TorchIntegration):
        def install(self, patch: Any, record: Any) -> None:
            super().install(patch, record)
            kept.append(self)
            scalars = ScalarsOnDevice(device, record.drop, lambda sentence: record.note("torch", sentence))
            self.loop.scalars = self.loop.scaling._scalars = self.loop.device_times._scalars = scalars
            record.unusual += 1  # the way of all that is not a number on the CPU

    with recorded(OnDevice) as recording:
        yield recording, device, kept[0]
