"""Numbers from a device: fetched without a wait, handed out in order. The device is a stand-in; there is none here."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch

from integrations.torch.fake_device import FakeDevice, queue
from looptap_integrations.torch.scalars import PLACES, Scalars


class Made:
    """Scalars on a device, with what they hand out and tell."""

    def __init__(self) -> None:
        self.device = FakeDevice()
        self.dropped: dict[str, int] = {}
        self.notes: list[str] = []
        self.out: list[dict[str, float]] = []
        self.scalars = Scalars(self.device, self.drop, self.notes.append)

    def drop(self, reason: str, count: int) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + count

    def write(self, **values: Any) -> None:
        self.scalars.later(values, self.out.append)

    def loss(self, value: float) -> None:
        self.write(loss=queue(self.scalars, value))


@pytest.fixture
def made() -> Made:
    return Made()


def test_numbers_come_when_their_event_is_done(made: Made) -> None:
    """Nothing is handed out before, everything after, in the order of asking."""
    for value in (1.5, 2.5, 3.5):
        made.loss(value)
    made.scalars.drain()
    assert made.out == []
    made.device.run(4)  # two copies and the events behind them
    made.scalars.drain()
    assert made.out == [{"loss": 1.5}, {"loss": 2.5}]
    made.device.run()
    made.scalars.drain()
    assert made.out[-1] == {"loss": 3.5}
    assert not made.scalars.is_waiting
    assert made.dropped == {}


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_the_first_number_in_inference_mode(made: Made, dtype: torch.dtype) -> None:
    """What is made in that mode can be written to in no other: neither the ring nor a place of it is."""
    with torch.inference_mode():
        made.write(loss=queue(made.scalars, 1, dtype))
        made.device.run()
    for number in range(PLACES):
        made.write(loss=queue(made.scalars, number % 2, dtype))
        made.device.run()
        made.scalars.drain()
    assert made.out == [{"loss": 1.0}, *({"loss": float(number % 2)} for number in range(PLACES))]


def test_write_without_values_keeps_its_place(made: Made) -> None:
    """Whoever sums up what came before is called after it."""
    made.loss(1.0)
    made.write()
    made.scalars.drain()
    assert made.out == []
    made.device.run()
    made.scalars.drain()
    assert made.out == [{"loss": 1.0}, {}]


def test_sums_and_quotients(made: Made) -> None:
    """An accumulated loss is the same number as if the host had added it up."""
    scalars = made.scalars
    values = [torch.tensor(value).item() for value in (0.1, 0.2, 0.3)]
    total = queue(scalars, values[0]) + queue(scalars, values[1]) + queue(scalars, values[2])
    scaled = queue(scalars, 6.0) / queue(scalars, 4.0)
    made.write(loss=total, scaled=scaled, mixed=1.0 + queue(scalars, 2.0))
    made.device.run()
    scalars.drain()
    assert made.out == [{"loss": values[0] + values[1] + values[2], "scaled": 1.5, "mixed": 3.0}]


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (torch.float64, 0.1),
        (torch.float16, 1.5),
        (torch.bfloat16, -2.0),
        (torch.int64, 2.0**40),
        (torch.uint8, 255.0),
        (torch.bool, True),
        (torch.float32, float("inf")),
    ],
)
def test_types_share_the_ring(made: Made, dtype: torch.dtype, value: float) -> None:
    """A place of 8 bytes holds a number of any type, next to others."""
    reading = made.scalars._queue(torch.tensor(value, dtype=dtype))
    made.write(a=queue(made.scalars, 0.5), b=reading, c=queue(made.scalars, 0.25))
    made.device.run()
    made.scalars.drain()
    assert made.out == [{"a": 0.5, "b": value, "c": 0.25}]


def test_one_event_for_what_is_written_together(made: Made) -> None:
    """Loss, norm and scale of a step have one event, and events are used again."""
    for step in range(50):
        made.write(**{name: queue(made.scalars, float(step)) for name in ("loss", "grad_norm", "amp_scale")})
        assert sum(event.records for event in made.device.events) == step + 1
        made.device.run()
        made.scalars.drain()
    assert len(made.out) == 50
    assert len(made.device.events) == 1


def test_one_allocation_of_fixed_size(made: Made) -> None:
    """A long run needs one small piece of pinned memory, whatever its length."""
    for step in range(3 * PLACES):
        made.loss(float(step))
        made.device.run()
        made.scalars.drain()
    assert [numbers["loss"] for numbers in made.out] == [float(step) for step in range(3 * PLACES)]
    assert made.device.allocations == [PLACES * 8]


def test_full_ring_drops_and_counts(made: Made) -> None:
    """A device far behind costs values, never time; what is in the ring is not overwritten, and it goes on when there is room."""
    for step in range(PLACES + 30):
        made.loss(float(step))
    made.device.run()
    made.scalars.drain()
    assert [numbers["loss"] for numbers in made.out] == [float(step) for step in range(PLACES)]
    assert made.dropped == {"device_behind": 30}
    made.loss(7.0)
    made.device.run()
    made.scalars.drain()
    assert made.out[-1] == {"loss": 7.0}


def test_lost_part_of_an_accumulation_loses_the_step(made: Made) -> None:
    """A sum without one of its parts is no loss of a step: it is counted as dropped, and the rest of the write is kept."""
    total = queue(made.scalars, 1.0)
    for _ in range(PLACES):
        total = total + queue(made.scalars, 1.0)
    made.write(loss=total, lr=0.5)
    made.device.run()
    made.scalars.drain()
    assert made.out == [{"lr": 0.5}]
    assert made.dropped == {"device_behind": 1}


def test_accumulation_longer_than_the_ring(made: Made) -> None:
    """Places are free again when the copy is done, not when the step is."""
    total: Any = 0.0
    for index in range(3 * PLACES):
        total = total + queue(made.scalars, 1.0)
        if index % 100 == 99:
            made.device.run()
            made.scalars.drain()
    made.write(loss=total)
    made.device.run()
    made.scalars.drain()
    assert made.out == [{"loss": 3.0 * PLACES}]
    assert made.dropped == {}


def test_writes_that_wait_are_bounded(made: Made) -> None:
    """A device that hangs does not fill the memory of the host."""
    for step in range(5 * PLACES):
        made.loss(float(step))
    assert len(made.scalars._waiting) == 2 * PLACES
    assert made.dropped["device_behind"] == 3 * PLACES


def test_each_stream_has_its_own_event(made: Made) -> None:
    """Copies of one step on two streams: done when both are."""
    first = queue(made.scalars, 1.0)
    made.device.current = "side"
    made.write(loss=first, norm=queue(made.scalars, 2.0))
    assert len(made.device.events) == 2
    made.device.run(stream="side")
    made.scalars.drain()
    assert made.out == []
    made.device.run(stream=0)
    made.scalars.drain()
    assert made.out == [{"loss": 1.0, "norm": 2.0}]


def test_source_lives_until_it_is_copied(made: Made) -> None:
    """Its memory could be handed out to another stream before our copy is done."""
    tensor = torch.tensor(3.0)
    storage = tensor.untyped_storage()._weak_ref()
    reading = made.scalars._queue(tensor)
    made.write(loss=reading)
    del tensor
    made.device.streams[0].pop(0)  # the stand-in's own reference to it
    assert made.scalars._under_way[0][2][0].source is not None
    made.device.run()
    made.scalars.drain()
    assert not made.scalars._under_way
    del storage


def test_large_source_is_not_kept(made: Made) -> None:
    """A view of a large tensor does not keep it."""
    made.write(loss=made.scalars._queue(torch.zeros(10_000)[3]))
    assert made.scalars._under_way[0][2][0].source is None


def test_end_waits_a_bounded_time(made: Made) -> None:
    """What never becomes ready is counted, not waited for."""
    made.loss(1.0)
    assert made.scalars.finish(0.02) == 1
    assert made.device.queries > 1
    assert made.dropped == {"device_behind": 1}
    assert made.scalars.finish(0.02) == 0


def test_failed_device(made: Made) -> None:
    """A kernel of the program has failed: nothing is raised, nothing is asked again, what was under way is counted."""
    made.loss(1.0)
    made.write(loss=queue(made.scalars, 2.0), lr=0.1)
    made.device.error = "CUDA error: device-side assert triggered\nCompile with …"
    made.scalars.drain()
    queries = made.device.queries
    made.loss(3.0)
    made.scalars.drain()
    assert made.scalars.finish(0.02) == 0
    assert made.device.queries == queries == 1
    assert made.out == [{"lr": 0.1}]
    assert made.dropped == {"device_failed": 3}
    assert made.notes == ["values from the device are left out from here on: CUDA error: device-side assert triggered"]


def test_graph_under_capture_is_left_alone(made: Made) -> None:
    """Nothing is queued, recorded, asked or allocated while a graph is being captured."""
    device = made.device
    device.capture(True)
    assert made.scalars._queue(torch.tensor(1.0)) is None  # before the first value: it would allocate
    device.capture(False)
    made.loss(1.0)
    open_copy = queue(made.scalars, 2.0)  # without an event yet
    device.capture(True)
    assert made.scalars._queue(torch.tensor(1.0)) is None
    made.write(loss=open_copy)
    made.scalars.drain()
    assert device.queries == 0
    device.capture(False)
    made.loss(3.0)
    device.run()
    made.scalars.drain()
    assert made.out == [{"loss": 1.0}, {"loss": 2.0}, {"loss": 3.0}]


def test_capture_of_another_thread(made: Made) -> None:
    """An event asked in any thread breaks a capture: nobody asks until it is over."""
    made.loss(1.0)
    made.device.run()
    made.scalars.captures += 1
    made.scalars.drain()
    assert made.out == []
    assert made.device.queries == 0
    made.scalars.captures -= 1
    made.scalars.drain()
    assert made.out == [{"loss": 1.0}]


def test_no_memory_is_taken_while_another_thread_captures(made: Made) -> None:
    """The first value of all would need the ring, and an allocation breaks a capture: it is left out, and later ones are there."""
    made.scalars.captures += 1
    assert made.scalars._queue(torch.tensor(1.0)) is None
    assert made.device.allocations == []
    made.scalars.captures -= 1
    made.loss(2.0)
    made.device.run()
    made.scalars.drain()
    assert made.out == [{"loss": 2.0}]


def test_device_without_pinned_copies(made: Made) -> None:
    """Nothing is read, and it is said why, in one sentence for the recorder to say once."""
    made.device.supported = False
    assert made.scalars._queue(torch.tensor(1.0)) is None
    assert made.notes == ["values on cpu are left out: they cannot be read there without a wait"]
    assert not made.scalars.has_device


def test_threads_that_train_side_by_side(made: Made) -> None:
    """Every value of every thread comes out once, with the right number."""
    device = made.device
    seen: list[dict[str, float]] = []

    def train(number: int) -> None:
        for step in range(200):
            made.scalars.later({f"loss{number}": queue(made.scalars, float(step))}, seen.append)
            made.scalars.drain()

    threads = [threading.Thread(target=train, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    device.run()
    made.scalars.drain()
    assert {name: [n[name] for n in seen if name in n] for name in ("loss0", "loss1", "loss2", "loss3")} == {
        f"loss{number}": [float(step) for step in range(200)] for number in range(4)
    }
    assert made.dropped == {}


def test_forked_child_starts_anew(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a child there is no device: what its parent had under way is not asked for."""
    made.loss(1.0)
    monkeypatch.setattr("os.getpid", lambda: -1)
    made.scalars.restart()
    assert not made.scalars.has_device
    assert made.scalars.finish(0.02) == 0
    assert made.device.queries == 0


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
def test_no_number_to_be_had(made: Made, tensor: Any) -> None:
    """Several elements, complex numbers, tensors without content and things that are no tensors give None."""
    assert made.scalars.read(tensor) is None


@pytest.mark.parametrize("tensor", [torch.ones(2), torch.tensor(1 + 1j), torch.tensor(2 + 3j).conj().imag])
def test_no_number_to_be_had_on_a_device(made: Made, tensor: Any) -> None:
    """The same on a device, and what only looks negated."""
    assert made.scalars._queue(tensor) is None
    assert made.device.streams == {}


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
