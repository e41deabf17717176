"""Where the time of a step goes: each phase gets the stretch of time in which the program really was there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from integrations.recording import Recording, recorded
from looptap_integrations.torch import TorchIntegration

#: Each phase sleeps for a time of its own: far more than the rest of it takes.
DATA, FORWARD, BACKWARD, OPTIMIZER, OTHER = 0.010, 0.020, 0.030, 0.040, 0.050
PHASES = ("data", "forward", "backward", "optimizer", "other")
SLEEPS = dict(zip(PHASES, (DATA, FORWARD, BACKWARD, OPTIMIZER, OTHER), strict=True))


@pytest.fixture
def record() -> Iterator[Recording]:
    torch.manual_seed(0)
    with recorded(TorchIntegration) as recording:
        yield recording


class Slow(Dataset[torch.Tensor]):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> torch.Tensor:
        time.sleep(DATA)
        return torch.ones(1)


class SlowBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        time.sleep(FORWARD)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        time.sleep(BACKWARD)
        return gradient


class SlowSGD(torch.optim.SGD):
    def step(self, closure: Any = None) -> Any:
        time.sleep(OPTIMIZER)
        return super().step(closure)


def loss_of(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = SlowBackward.apply(model(x)).sum()  # type: ignore[no-untyped-call]
    return result


def check(record: Recording, count: int, times: dict[str, int]) -> None:
    """Each phase took so many of its sleeps in each of the steps, and all together are the step."""
    for phase, sleeps in times.items():
        values = record.values(f"time.{phase}")
        assert len(values) == count, phase
        # What sleeps may sleep longer, and by as much on a busy machine as it likes: not less, and not into another phase.
        assert all(value >= sleeps * SLEEPS[phase] * 0.999 for value in values), (phase, values)
    whole = record.values("step_time")[-count:]
    parts = [sum(step) for step in zip(*(record.values(f"time.{phase}") for phase in times), strict=True)]
    assert parts == pytest.approx(whole, rel=1e-9)


def test_phases_of_a_step(record: Recording) -> None:
    """Waiting for data, forward, backward, optimizer and the rest; summed at the end of each epoch."""
    model = nn.Linear(1, 1)
    optimizer = SlowSGD(model.parameters(), lr=0.1)
    loader = DataLoader(Slow(), batch_size=1)
    for _ in range(2):
        for x in loader:
            loss = loss_of(model, x)
            loss.backward()
            time.sleep(OTHER)
            optimizer.step()
            optimizer.zero_grad()
    check(record, 8, dict.fromkeys(PHASES, 1))
    assert record.values("epoch_time.forward") == pytest.approx([sum(record.values("time.forward")[:4])])
    for phase in PHASES:
        assert [step for step, _ in record.series(f"epoch_time.{phase}")] == [3]


def test_the_last_epoch_is_summed_when_the_run_ends() -> None:
    """There is no next pass that would show its end."""
    with recorded(TorchIntegration) as record:
        model = nn.Linear(1, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        loader: DataLoader[Any] = DataLoader(torch.ones(3, 1), batch_size=1)  # type: ignore[arg-type]
        for _ in range(2):
            for x in loader:
                model(x).sum().backward()
                optimizer.step()
    of_step = record.values("time.backward")
    assert [step for step, _ in record.series("epoch_time.backward")] == [2, 5]
    assert record.values("epoch_time.backward") == pytest.approx([sum(of_step[:3]), sum(of_step[3:])])


def test_accumulated_batches_add_up(record: Recording) -> None:
    """Two batches for one step: its data, forward and backward took twice as long."""
    model = nn.Linear(1, 1)
    optimizer = SlowSGD(model.parameters(), lr=0.1)
    for index, x in enumerate(DataLoader(Slow(), batch_size=1)):
        loss = loss_of(model, x) / 2
        loss.backward()
        if index % 2:
            optimizer.step()
    check(record, 2, {"data": 2, "forward": 2, "backward": 2, "optimizer": 1, "other": 0})


def test_without_a_loader_nobody_knows_the_wait_for_data(record: Recording) -> None:
    """The time from the end of a step to the backward pass is forward; there is no series for data."""
    model = nn.Linear(1, 1)
    optimizer = SlowSGD(model.parameters(), lr=0.1)
    for _ in range(3):
        loss_of(model, torch.ones(1, 1)).backward()
        optimizer.step()
    check(record, 2, {"forward": 1, "backward": 1, "optimizer": 1, "other": 0})
    assert record.series("time.data") == []


def test_a_validation_between_two_steps_is_other(record: Recording) -> None:
    """Neither its data nor its forward pass is the training's."""
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for index, x in enumerate(DataLoader(torch.ones(3, 1), batch_size=1)):  # type: ignore[arg-type]
        model(x).sum().backward()
        optimizer.step()
        if index == 0:
            with torch.no_grad():
                for batch in DataLoader(Slow(), batch_size=1):
                    loss_of(model, batch)
    other = dict(record.series("time.other"))
    assert other[1] >= 4 * (DATA + FORWARD) * 0.999
    assert other[1] > 10 * other[2]
    assert dict(record.series("time.data"))[1] < 4 * DATA


def test_optimizers_that_share_a_backward_pass(record: Recording) -> None:
    """What went before the first of them is its time; the second has none, until something comes between."""
    model, critic = nn.Linear(1, 1), nn.Linear(1, 1)
    first = torch.optim.SGD(model.parameters(), lr=0.1)
    second = SlowSGD(critic.parameters(), lr=0.1)
    for index, x in enumerate(DataLoader(Slow(), batch_size=1)):
        loss = loss_of(model, critic(x))
        loss.backward()
        first.step()
        if index == 3:
            loss_of(critic, x).backward()
        second.step()
    for phase in ("data", "forward", "backward"):
        assert [step for step, _ in record.series(f"time.{phase}", optimizer="first")] == [0, 1, 2, 3]
        shared = [step for step, _ in record.series(f"time.{phase}", optimizer="second")]
        assert shared == ([] if phase == "data" else [3])
    for phase in ("optimizer", "other"):
        assert len(record.series(f"time.{phase}", optimizer="second")) == 4
    assert all(value > 0.0 for key, _, value, _ in record.points if key == "time.data")


def test_closures_are_told_from_the_optimizer_around_them(record: Recording) -> None:
    """What an LBFGS evaluates inside of its step is forward and backward."""
    weight = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.LBFGS([weight], lr=0.5, max_iter=3)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss: torch.Tensor = (SlowBackward.apply(weight) - 3.0).pow(2).sum()  # type: ignore[no-untyped-call]
        loss.backward()
        return loss

    for _ in range(2):
        optimizer.step(closure)
    evaluations = record.values("closure_evaluations")[-1]
    assert record.values("time.forward")[-1] >= evaluations * FORWARD * 0.999
    assert record.values("time.backward")[-1] >= evaluations * BACKWARD * 0.999
    assert record.values("time.optimizer")[-1] < record.values("time.forward")[-1]


def test_without_an_optimizer_a_step_has_its_times(record: Recording) -> None:
    """Hand-written updates count to what comes before the next backward pass."""
    weight = torch.ones(1, requires_grad=True)
    weight.register_hook(lambda gradient: time.sleep(BACKWARD))
    for _ in range(4):
        loss = weight.sum()
        loss.backward()
        with torch.no_grad():
            weight -= 0.1
            weight.grad = None
    assert len(record.values("time.forward")) == len(record.values("step_time")) == 2
    assert all(value >= BACKWARD * 0.999 for value in record.values("time.backward"))
