"""Backward passes that are no plain ``loss.backward()``."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from integrations.recording import Recording, recorded
from integrations.torch.loops import numbered, regression
from looptap_integrations.torch import TorchIntegration


def test_several_losses_in_one_call(record: Recording) -> None:
    """``torch.autograd.backward([a, b])`` gives both, each by its name."""
    weight = torch.ones(2, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    for _ in range(2):
        near = weight.sum()
        far = (weight * 3).sum()
        torch.autograd.backward([near, far])
        optimizer.step()
        optimizer.zero_grad()
    assert record.series("near")[0] == (0, 2.0)
    assert record.series("far")[0] == (0, 6.0)
    assert len(record.values("near")) == 2


def test_gradient_of_a_vector_is_no_loss(record: Recording) -> None:
    """A backward pass from several numbers has no value; from one number with a gradient it has."""
    weight = torch.ones(2, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    vector = weight * 2
    vector.backward(torch.ones(2))
    optimizer.step()
    assert record.names() == {"lr"}
    single = weight.sum()
    single.backward(torch.tensor(0.5))
    optimizer.step()
    assert record.series("single") == [(1, single.item())]


def test_backward_that_raises_is_no_loss(record: Recording) -> None:
    """PyTorch's own error reaches the program, and the loss is not counted."""
    weight = torch.ones(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    loss = weight.square().sum()
    loss.backward()
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()
    optimizer.step()
    assert record.series("loss") == [(0, 1.0)]


def test_backward_that_raises_in_the_middle_of_training(record: Recording) -> None:
    """An accumulation of which one part fails (out of memory, say) and is left out: the loss of the step is that of the rest."""
    model, x, y = regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    truth = []
    for step in range(6):
        optimizer.zero_grad()
        total = None
        for part in range(3):
            output = model(x)
            if step > 1 and part == step % 3:

                def fail(_: torch.Tensor) -> torch.Tensor:
                    raise RuntimeError("out of memory")

                output.register_hook(fail)
            loss = nn.functional.mse_loss(output, y) / (part + 1)
            try:
                loss.backward()
            except RuntimeError:
                continue
            total = loss.item() if total is None else total + loss.item()
        optimizer.step()
        truth.append(total)
    assert record.series("loss") == numbered(truth)  # type: ignore[arg-type]


def test_reentrant_checkpointing_adds_no_loss(record: Recording) -> None:
    """Checkpointing runs backward passes inside of the program's; they are not losses."""
    model, x, y = regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    truth = []
    for _ in range(3):
        x.requires_grad_(True)
        hidden = torch.utils.checkpoint.checkpoint(model, x, use_reentrant=True)
        loss = nn.functional.mse_loss(hidden, y)
        loss.backward()
        optimizer.step()
        truth.append(loss.item())
    assert record.series("loss") == numbered(truth)
    assert record.names() == {"loss", "lr", "step_time"}


def test_same_instruction_in_two_functions(record: Recording) -> None:
    """Two functions whose backward passes stand at the same place of their code are two places, each with its own name."""
    source = """def train(model, x, y, optimizer):
    {0} = mse(model(x), y)
    {0}.backward()
    optimizer.step()
    return {0}.item()
"""
    functions = []
    for name in ("first", "second"):
        scope: dict[str, Any] = {"mse": nn.functional.mse_loss}
        exec(source.format(name), scope)
        functions.append(scope["train"])
    model, x, y = regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    truth: dict[str, list[tuple[int, float]]] = {"first": [], "second": []}
    for step in range(8):
        index = step % 2 if step < 6 else 0
        value = functions[index](model, x, y, optimizer)
        truth["second" if index else "first"].append((step, value))
    assert record.series("first") == truth["first"]
    assert record.series("second") == truth["second"]


def test_manual_update(record: Recording) -> None:
    """Without any optimizer each backward pass is a step."""
    weight = torch.ones(3, requires_grad=True)
    truth = []
    for _ in range(5):
        loss = (weight**2).sum()
        loss.backward()
        assert weight.grad is not None
        with torch.no_grad():
            weight -= 0.1 * weight.grad
        weight.grad = None
        truth.append(loss.item())
    assert record.series("loss") == numbered(truth)


def test_single_backward_without_optimizer() -> None:
    """One backward pass and nothing else: written when the run ends."""
    with recorded(TorchIntegration) as record:
        weight = torch.ones(3, requires_grad=True)
        loss = weight.sum()
        loss.backward()
        assert record.points == []
    assert record.series("loss") == [(0, 3.0)]
