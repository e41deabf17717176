"""Whole training loops whose numbers are on a device; the device is a stand-in that is some work behind the program."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

import looptap
from integrations.torch.fake_device import on_device
from programs import Programs


def model_and_optimizer(lr: float = 0.1) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    return model, torch.optim.SGD(model.parameters(), lr=lr)


def batch(step: int) -> torch.Tensor:
    return torch.randn(8, 4, generator=torch.Generator().manual_seed(step))


def test_losses_arrive_late_at_their_own_step() -> None:
    """The device is three steps behind; every loss and norm has the step that it belongs to."""
    losses, norms = [], []
    with on_device() as (recording, device, _):
        model, optimizer = model_and_optimizer()
        for step in range(20):
            optimizer.zero_grad()
            loss = model(batch(step)).square().mean()
            loss.backward()
            norms.append(nn.utils.clip_grad_norm_(model.parameters(), 1.0).item())
            optimizer.step()
            losses.append(loss.item())
            if step >= 3:
                device.run(3)  # two copies and their event: one step
                assert len(recording.values("loss")) == step - 3
        device.run()
    assert recording.series("loss") == list(enumerate(losses))
    assert recording.series("grad_norm") == list(enumerate(norms))
    assert recording.series("lr") == [(0, 0.1)]
    assert [step for step, _ in recording.series("step_time")] == list(range(1, 20))
    events = [event for event in device.events if not event.timing]
    assert sum(event.records for event in events) == 20
    assert len(events) <= 6


def test_accumulation() -> None:
    """The loss of a step is the sum over its backward passes, in float64."""
    expected = []
    with on_device() as (recording, device, _):
        model, optimizer = model_and_optimizer()
        for step in range(5):
            total = 0.0
            for part in range(4):
                loss = model(batch(4 * step + part)).square().mean() / 4
                loss.backward()
                total += loss.item()
            optimizer.step()
            optimizer.zero_grad()
            expected.append(total)
            device.run()
    assert recording.series("loss") == list(enumerate(expected))


def test_failed_backward_leaves_no_loss() -> None:
    """What was backwarded did not get there; the copy that was under way for it does no harm."""

    class Fails(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            raise ValueError("of the program")

    expected = []
    with on_device() as (recording, device, _):
        model, optimizer = model_and_optimizer()
        for step in range(6):
            loss = model(batch(step)).square().mean()
            if step % 2:
                try:
                    Fails.apply(loss).backward()  # type: ignore[no-untyped-call]
                except ValueError:
                    continue
            loss.backward()
            optimizer.step()
            expected.append(loss.item())
            device.run()
    assert recording.values("loss") == expected


def test_nothing_is_waited_for() -> None:
    """A device that never gets on: training ends, and what is missing is said."""
    with on_device() as (recording, _, _):
        model, optimizer = model_and_optimizer()
        for step in range(3):
            model(batch(step)).square().mean().backward()
            optimizer.step()
    assert recording.values("loss") == []
    assert recording.notes == ["the device did not hand over the last 3 values in time"]
    assert len(recording.values("step_time")) == 2


def test_weights_are_the_same_with_and_without() -> None:
    """Nothing that we read changes what is trained."""

    def train() -> torch.Tensor:
        model, optimizer = model_and_optimizer()
        for step in range(10):
            model(batch(step)).square().mean().backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
        return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])

    alone = train()
    with on_device() as (_, device, _):
        assert torch.equal(train(), alone)
        device.run()


def test_whole_program(programs: Programs) -> None:
    """Values of a device, its times, the allocator and what was dropped, in the store; and nothing is left of the thread."""
    done = programs.python(
        """
        import threading, time
        import looptap
        looptap.autolog()
        import torch
        from integrations.torch.fake_device import FakeDevice, ScalarsOnDevice
        from integrations.torch.test_memory import FakeAllocator
        from looptap.session import SESSION
        from looptap_integrations.torch.memory import Memory

        entry, record = SESSION.registry.entries["torch"], SESSION.recorder
        loop, device = entry.integration.loop, FakeDevice()
        scalars = ScalarsOnDevice(device, record.drop, lambda sentence: record.note("torch", sentence))
        loop.scalars = loop.scaling._scalars = loop.device_times._scalars = scalars
        record.unusual += 1
        memory, allocator = Memory(record, FakeAllocator()), FakeAllocator()
        memory._allocator = allocator
        memory.install(entry.patcher)

        model = torch.nn.Linear(4, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        losses = []
        for step in range(50):
            loss = model(torch.ones(4)).square().sum()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if step < 40:
                device.run()
        while not allocator.observers:
            time.sleep(0.01)
        allocator.observers[0](0, 2**30, 2**36, 0)
        looptap.end_run()
        print(losses)
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("looptap")]
        """,
        PYTHONPATH=os.pathsep.join((os.environ.get("PYTHONPATH", ""), str(Path(__file__).parents[2]))),
    )
    assert done.returncode == 0, done.stderr
    run = looptap.get_run("latest", store=str(programs.store))
    losses = json.loads(done.stdout)
    history = run.history("loss")
    assert list(zip(history["step"], history["value"], strict=True)) == list(enumerate(losses[:40]))
    assert list(run.history("device_time.forward")["step"]) == [20]
    assert list(run.history("memory.allocated")["value"])[-1] == 3.0 * 2**30
    assert run.delivery.dropped == {"device_behind": 10}
    shown = " ".join(programs.looptap("show", "latest").stdout.split())
    assert "out of memory, 1.00 GiB asked for" in shown
    assert "the device did not hand over the last 10 values in time" in shown
