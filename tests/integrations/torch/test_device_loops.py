"""Whole training loops whose numbers are on a device; the device is a stand-in that is some work behind the program."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from integrations.torch.fake_device import on_device


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
                assert len(recording.values("loss")) <= step - 2
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
                    Fails.apply(loss).backward()
                except ValueError:
                    continue
            loss.backward()
            optimizer.step()
            expected.append(loss.item())
            device.run()
    assert recording.values("loss") == expected


def test_nothing_is_waited_for() -> None:
    """A device that never gets on: training ends, and what is missing is said."""
    with on_device() as (recording, device, _):
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
