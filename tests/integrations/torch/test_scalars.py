"""Numbers from a device: fetched without a wait, handed out in order. The device is a stand-in; there is none here."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from looptap_integrations.torch.scalars import Reading, Scalars


class Event:
    def __init__(self, device: FakeDevice) -> None:
        self._number = device.recorded
        self._device = device

    def query(self) -> bool:
        self._device.queries += 1
        return self._number < self._device.done


class FakeDevice:
    """Events are done in order, when the test says so."""

    def __init__(self) -> None:
        self.recorded = self.done = self.queries = 0
        self.capturing = False
        self.blocks: list[int] = []

    def memory(self, count: int, dtype: torch.dtype) -> torch.Tensor:
        self.blocks.append(count)
        return torch.zeros(count, dtype=dtype)

    def event(self, tensor: torch.Tensor) -> Any:
        event = Event(self)
        self.recorded += 1
        return event

    def is_capturing(self, tensor: torch.Tensor) -> bool:
        return self.capturing


def queue(scalars: Scalars, value: float, dtype: torch.dtype = torch.float32) -> Reading:
    """As if the tensor were on the device."""
    reading = scalars._queue(torch.tensor(value, dtype=dtype, requires_grad=True))
    assert reading is not None
    return reading


def test_numbers_come_when_their_event_is_done() -> None:
    """Nothing is handed out before, everything after, in the order of asking."""
    device = FakeDevice()
    scalars = Scalars(device)
    out: list[dict[str, float]] = []
    for value in (1.5, 2.5, 3.5):
        scalars.later({"loss": queue(scalars, value)}, out.append)
    scalars.drain()
    assert out == []
    device.done = 2
    scalars.drain()
    assert out == [{"loss": 1.5}, {"loss": 2.5}]
    device.done = 3
    scalars.drain()
    assert out[-1] == {"loss": 3.5}
    assert not scalars.is_waiting


def test_sums_and_quotients_are_float64_from_left_to_right() -> None:
    """An accumulated loss is the same number as if the host had added it up."""
    device = FakeDevice()
    scalars = Scalars(device)
    values = [torch.tensor(value).item() for value in (0.1, 0.2, 0.3)]
    total = queue(scalars, values[0]) + queue(scalars, values[1]) + queue(scalars, values[2])
    scaled = queue(scalars, 6.0) / queue(scalars, 4.0)
    out: list[dict[str, float]] = []
    scalars.later({"loss": total, "scaled": scaled, "mixed": 1.0 + queue(scalars, 2.0)}, out.append)
    device.done = 99
    scalars.drain()
    assert out == [{"loss": values[0] + values[1] + values[2], "scaled": 1.5, "mixed": 3.0}]


def test_places_are_used_again() -> None:
    """A long run needs one block of pinned memory, whatever its length."""
    device = FakeDevice()
    scalars = Scalars(device)
    for step in range(1000):
        scalars.later({"loss": queue(scalars, float(step))}, lambda numbers: None)
        device.done = device.recorded
        scalars.drain()
    assert len(device.blocks) == 1


def test_slow_device_gets_more_places() -> None:
    """Where nothing becomes ready for long, no place is overwritten."""
    device = FakeDevice()
    scalars = Scalars(device)
    out: list[dict[str, float]] = []
    for step in range(600):
        scalars.later({"loss": queue(scalars, float(step))}, out.append)
    device.done = device.recorded
    scalars.drain()
    assert [numbers["loss"] for numbers in out] == [float(step) for step in range(600)]


def test_end_waits_a_bounded_time() -> None:
    """What never becomes ready is counted, not waited for."""
    device = FakeDevice()
    scalars = Scalars(device)
    scalars.later({"loss": queue(scalars, 1.0)}, lambda numbers: None)
    assert scalars.finish(0.02) == 1
    assert device.queries > 1
    assert scalars.finish(0.02) == 0


def test_graph_under_capture_has_no_number() -> None:
    """While a CUDA graph is being captured nothing is queued into it."""
    device = FakeDevice()
    device.capturing = True
    assert Scalars(device)._queue(torch.tensor(1.0)) is None
    assert device.recorded == 0


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(2),
        torch.tensor(1 + 1j),
        torch.empty(0),
        torch.empty((), device="meta"),
        torch.ones(2).to_sparse(),
        None,
        3.0,
    ],
)
def test_no_number_to_be_had(tensor: Any) -> None:
    """Several elements, complex numbers, tensors without content and things that are no tensors give None."""
    assert Scalars(FakeDevice()).read(tensor) is None


def test_subclasses_of_tensor() -> None:
    """A subclass of the program is read without its own code; one that answers operations itself is left alone."""

    class Loud(torch.Tensor):
        @classmethod
        def __torch_function__(cls, *args: Any, **kwargs: Any) -> Any:
            raise AssertionError("looked")

    class Remote(torch.Tensor):
        @classmethod
        def __torch_dispatch__(cls, *args: Any, **kwargs: Any) -> Any:
            raise AssertionError("looked")

    assert Scalars().read(torch.nn.Parameter(torch.tensor(2.5))) == 2.5
    assert Scalars().read(torch.tensor(1.5).as_subclass(Loud)) == 1.5
    assert Scalars().read(torch.tensor(1.5).as_subclass(Remote)) is None
