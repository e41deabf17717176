"""Where the time of a step goes on the device. The device is a stand-in whose work takes as long as the test says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from integrations.recording import Recording
from integrations.torch.fake_device import FakeDevice, on_device

PHASES = ("data", "forward", "backward", "optimizer", "other")


class Slow(nn.Linear):
    """A model and an optimizer whose work on the device takes time: 1 s forward, 2 s backward (a hook of the gradient)."""

    def __init__(self, device: FakeDevice) -> None:
        super().__init__(4, 1)
        self.device = device

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        self.device.work(1.0)
        output = super().forward(input)
        if output.requires_grad:
            output.register_hook(lambda grad: self.device.work(2.0))
        return output


class SlowSGD(torch.optim.SGD):
    device: FakeDevice

    def step(self, closure: Any = None) -> Any:
        self.device.work(0.5)
        return super().step(closure)


def train(device: FakeDevice, steps: int, passes_per_step: int = 1) -> None:
    data = TensorDataset(torch.randn(steps * passes_per_step, 4))
    model = Slow(device)
    optimizer = SlowSGD(model.parameters(), lr=0.01)
    optimizer.device = device
    for index, (batch,) in enumerate(DataLoader(data)):
        device.work(0.25)  # brings the batch to the device
        model(batch).mean().backward()
        if index % passes_per_step == passes_per_step - 1:
            device.work(4.0)  # clipping, say
            optimizer.step()
            optimizer.zero_grad()
        if index % 3 == 0:
            device.run()
    device.run()


def of_steps(recording: Recording) -> dict[int, dict[str, float]]:
    found: dict[int, dict[str, float]] = {}
    for phase in PHASES:
        for step, value in recording.series(f"device_time.{phase}"):
            found.setdefault(step, {})[phase] = value
    return found


def test_phases_of_every_twentieth_step() -> None:
    """Each has the seconds of its own work; the events of one sample are used for the next."""
    with on_device() as (recording, device, _):
        train(device, 70)
        timing = [event for event in device.events if event.timing]
    expected = {"data": 0.0, "forward": 1.25, "backward": 2.0, "optimizer": 0.5, "other": 4.0}
    assert of_steps(recording) == {step: pytest.approx(expected) for step in (20, 40, 60)}
    assert len(timing) <= 12


def test_accumulation() -> None:
    """Phases of several passes add up."""
    with on_device() as (recording, device, _):
        train(device, 25, passes_per_step=3)
    expected = {"data": 0.0, "forward": 3.75, "backward": 6.0, "optimizer": 0.5, "other": 4.0}
    assert of_steps(recording) == {20: pytest.approx(expected)}


def test_graph_under_capture_is_not_timed() -> None:
    """A step in which a graph is captured is left out; the next one that is due is there."""
    with on_device() as (recording, device, integration):
        data = torch.randn(4)
        model = nn.Linear(4, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for step in range(50):
            loss = model(data).mean()
            loss.backward()
            if step == 20:
                device.capture(True)
                integration.loop.device_times.mark("time.other")
                device.capture(False)
            optimizer.step()
            device.run()
    assert list(of_steps(recording)) == [40]


def test_a_step_on_another_stream_is_not_timed() -> None:
    """Events on the stream of the step before say nothing of this one's work; from then on the new stream is timed."""
    with on_device() as (recording, device, _):
        model = nn.Linear(4, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for step in range(50):
            device.current = 0 if step < 20 else 1
            model(torch.randn(4)).mean().backward()
            optimizer.step()
            device.run()
    assert list(of_steps(recording)) == [40]


def test_nothing_on_the_cpu() -> None:
    """No event, no series."""
    from integrations.recording import recorded
    from looptap_integrations.torch import TorchIntegration

    with recorded(TorchIntegration) as recording:
        model = nn.Linear(4, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for _ in range(50):
            model(torch.randn(2, 4)).mean().backward()
            optimizer.step()
    assert of_steps(recording) == {}
    assert len(recording.values("loss")) == 50
