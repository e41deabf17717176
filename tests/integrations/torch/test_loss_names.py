"""Names of losses: the program's own variables, found once for each call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from integrations.recording import Recording, recorded
from looptap_integrations.torch import TorchIntegration


@pytest.fixture
def record() -> Iterator[Recording]:
    with recorded(TorchIntegration) as recording:
        yield recording


class Trainer:
    def __init__(self) -> None:
        self.weight = torch.ones(1, requires_grad=True)
        self.optimizer = torch.optim.SGD([self.weight], lr=0.1)
        self.loss_G = self.weight.sum()

    def step(self) -> None:
        self.loss_G = self.weight.sum()
        self.loss_G.backward()
        self.optimizer.step()


def names_of(record: Recording) -> set[str]:
    return record.names() - {"lr", "step_time"}


def test_attribute_of_an_object(record: Recording) -> None:
    """``self.loss_G.backward()`` is ``loss_G``."""
    trainer = Trainer()
    for _ in range(2):
        trainer.step()
    assert names_of(record) == {"loss_G"}


def test_value_of_a_dict(record: Recording) -> None:
    """``losses["cls"].backward()`` is ``cls``."""
    trainer = Trainer()
    losses = {"cls": trainer.weight.sum(), "box": trainer.weight.mean()}
    losses["cls"].backward()
    losses["box"].backward()
    trainer.optimizer.step()
    assert names_of(record) == {"cls", "box"}


def test_expressions(record: Recording) -> None:
    """An expression has the name of the only tensor in it, and ``loss`` where there are several or a call decides."""
    trainer = Trainer()
    near, far, n = trainer.weight.sum(), trainer.weight.sum(), 2
    (near / n).backward(retain_graph=True)
    near.mean().backward(retain_graph=True)
    trainer.optimizer.step()
    assert names_of(record) == {"near"}
    (near + far).backward()
    trainer.optimizer.step()
    assert names_of(record) == {"near", "loss"}
    torch.nn.functional.mse_loss(trainer.weight, torch.zeros(1)).backward()
    trainer.optimizer.step()
    assert names_of(record) == {"near", "loss"}


def test_scaled_loss_has_the_name_of_the_unscaled(record: Recording) -> None:
    """Also where the result of ``scale`` has a variable of its own."""
    trainer = Trainer()
    scaler = torch.amp.GradScaler("cpu")
    objective = trainer.weight.sum()
    scaled = scaler.scale(objective)
    scaled.backward()
    scaler.step(trainer.optimizer)
    assert names_of(record) == {"objective", "amp_scale"}


def test_name_is_looked_up_once_per_place(record: Recording) -> None:
    """A place keeps its name, so a series goes on where a variable is renamed in passing."""
    trainer = Trainer()

    def descend(value: torch.Tensor) -> None:
        value.backward()
        trainer.optimizer.step()

    for _ in range(3):
        loss: Any = trainer.weight.sum()
        descend(loss)
    assert names_of(record) == {"value"}
    assert len(record.values("value")) == 3


def test_code_without_source(record: Recording) -> None:
    """Code that has no file, as from exec, still has variables."""
    space: dict[str, Any] = {"trainer": Trainer()}
    exec("energy = trainer.weight.sum()\nenergy.backward()\n(energy * 1)\ntrainer.optimizer.step()", space)
    assert names_of(record) == {"energy"}


def test_update_by_hand_beside_a_living_optimizer(record: Recording) -> None:
    """A loss that no optimizer descends is written at its backward passes, also while an optimizer for other weights lives."""
    trainer = Trainer()
    trainer.step()
    weight = torch.ones(1, requires_grad=True)
    for _ in range(3):
        energy = (weight * 2).sum()
        energy.backward()
        weight.grad = None
    assert record.values("energy") == [2.0, 2.0, 2.0]
    assert len({step for step, _ in record.series("energy")}) == 3
