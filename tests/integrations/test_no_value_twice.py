"""One value that reaches us by several ways is one point."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import mlflow
import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from integrations.recording import Recording, recorded
from looptap_integrations.mlflow import MlflowIntegration
from looptap_integrations.tensorboard import TensorBoardIntegration
from looptap_integrations.torch import TorchIntegration


@pytest.fixture
def record() -> Iterator[Recording]:
    with recorded(TorchIntegration, TensorBoardIntegration, MlflowIntegration) as recording:
        yield recording


@pytest.fixture
def writer(record: Recording, tmp_path: Path) -> Iterator[SummaryWriter]:
    with SummaryWriter(str(tmp_path)) as made:
        yield made


def train(steps: int, between: Any = None, after: Any = None) -> list[float]:
    """A loop with calls between backward and step, and after the step."""
    weights = torch.ones(2, requires_grad=True)
    optimizer = torch.optim.SGD([weights], lr=0.1)
    losses = []
    for step in range(steps):
        optimizer.zero_grad()
        loss = (weights**2).sum()
        losses.append(loss.item())
        loss.backward()
        if between:
            between(step, loss.item())
        optimizer.step()
        if after:
            after(step, loss.item())
    return losses


def test_logged_by_hand(record: Recording) -> None:
    """looptap.log_metric of the loss, before and after its step, with and without a number."""

    def log(step: int, loss: float) -> None:
        record.log_metrics({"loss": loss})
        record.log_metrics({"loss": loss}, step=step)

    losses = train(3, lambda step, loss: record.log_metrics({"loss": loss}), log)
    assert record.series("loss") == list(enumerate(losses))


def test_another_value_is_kept(record: Recording) -> None:
    losses = train(2, after=lambda step, loss: record.log_metrics({"loss": loss / 2}))
    assert sorted(record.series("loss")) == sorted([*enumerate(losses), *enumerate(loss / 2 for loss in losses)])


def test_the_same_source_may_repeat_itself(record: Recording) -> None:
    """Ten times 1.0 at one step are ten points of the program's own series; told by another tool, they are not twenty."""
    train(1)
    for _ in range(3):
        record.log_metrics({"accuracy": 1.0, "odd": math.nan})
    record.log_metrics({"accuracy": 1.0, "odd": math.nan}, source="tensorboard")
    assert record.values("accuracy") == [1.0] * 3
    assert len(record.values("odd")) == 3


def test_two_tools(record: Recording, writer: SummaryWriter, tmp_path: Path) -> None:
    """One value in TensorBoard and in MLflow."""
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    with mlflow.start_run():

        def both(step: int, loss: float) -> None:
            writer.add_scalar("double", 2 * loss, step)
            mlflow.log_metric("double", 2 * loss, step=step)

        losses = train(2, after=both)
    assert record.series("double") == [(step, 2 * loss) for step, loss in enumerate(losses)]


def test_accumulated_losses_are_not_mistaken(record: Recording) -> None:
    """The first micro-batch's loss, logged by the program, is not the step's."""
    weights = torch.ones(2, requires_grad=True)
    optimizer = torch.optim.SGD([weights], lr=0.1)
    for scale in (1.0, 3.0):
        loss = (scale * weights).sum()
        loss.backward()
        record.log_metrics({"loss": loss.item()})
    optimizer.step()
    assert record.series("loss") == [(0, 2.0), (0, 6.0), (0, 8.0)]


def called_from(package: str, function: Any) -> Any:
    """The function as if it stood in that package."""
    return FunctionType(function.__code__, {**function.__globals__, "__name__": package}, closure=function.__closure__)


def test_loggers_of_a_leading_framework(record: Recording, writer: SummaryWriter) -> None:
    """While one leads, what its own loggers write is its own record; what the program writes is the program's."""

    def log() -> None:
        writer.add_scalar("loss_step", 1.0, 0)

    inside = called_from("lightning.pytorch.loggers.tensorboard", log)
    with record.cover("loss"):
        inside()
        assert record.points == []
        log()
        assert record.series("loss_step") == [(0, 1.0)]
    inside()
    assert len(record.values("loss_step")) == 2


def test_tees_of_two_threads_are_two(record: Recording) -> None:
    """What another thread logs meanwhile is not inside of ours."""
    found = []
    with record.tee() as is_ours:
        found.append(is_ours)
        with record.tee() as is_nested:
            found.append(is_nested)

        def other() -> None:
            with record.tee() as is_theirs:
                found.append(is_theirs)

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    with record.tee() as is_next:
        found.append(is_next)
    assert found == [True, False, True, True]


def test_values_on_a_device_are_not_waited_for(record: Recording) -> None:
    """They are handed to whoever reads devices; the rest is logged at once."""
    handed: list[Any] = []

    def take(values: Any, emit: Any) -> Any:
        handed.append(emit)
        return {key for key in values if key == "far"}

    record.take_from_device = take
    record.log_metrics({"far": object(), "near": 1.0}, step=3)
    assert record.points == [("near", 3, 1.0, {})]
    handed[0]({"far": 2.0})
    assert record.series("far") == [(3, 2.0)]
    assert record.refused == []


def test_a_tensor_without_a_number_is_noted() -> None:
    """On ``meta``, which is no CPU, there is none to be had."""
    with recorded(TorchIntegration) as record:
        record.begin()
        record.log_metrics({"a": torch.ones((), device="meta"), "b": torch.tensor(2.0)}, step=1)
    assert record.points == [("b", 1, 2.0, {})]
    assert record.notes == ["no number is to be had of a"]
