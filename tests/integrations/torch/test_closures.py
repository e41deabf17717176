"""Steps with a closure, and steps that call the one they override."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from integrations.recording import Recording
from integrations.torch.loops import numbered, regression


def test_lbfgs(record: Recording) -> None:
    """The first evaluation is the loss of the step; how many there were is a series."""
    model, x, y = regression()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4)
    counts, first = [], []
    for _ in range(4):
        losses = []

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            losses.append(loss.item())  # noqa: B023 - called within this turn of the loop
            return loss

        optimizer.step(closure)
        counts.append(float(len(losses)))
        first.append(losses[0])
    assert record.series("loss") == numbered(first)
    assert record.series("closure_evaluations") == numbered(counts)
    assert max(counts) > 1


def test_closure_with_accumulation_that_is_called_once(record: Recording) -> None:
    """All that the first evaluation backwards counts; an optimizer that evaluates once leaves no series about it."""
    model, x, y = regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    truth = []
    for _ in range(3):
        total = 0.0

        def closure() -> float:
            nonlocal total
            optimizer.zero_grad()
            for part in range(2):
                loss = nn.functional.mse_loss(model(x[part::2]), y[part::2])
                loss.backward()
                total += loss.item()
            return total

        optimizer.step(closure)
        truth.append(total)
    assert record.series("loss") == numbered(truth)
    assert "closure_evaluations" not in record.names()


def test_closure_that_raises(record: Recording) -> None:
    """The program's exception comes out as it is, and the next step is right."""
    weight = torch.ones(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    error = ZeroDivisionError("mine")

    def closure() -> float:
        raise error

    with pytest.raises(ZeroDivisionError) as caught:
        optimizer.step(closure)
    assert caught.value is error
    loss = weight.sum()
    loss.backward()
    optimizer.step()
    assert record.series("loss") == [(0, 1.0)]
    assert record.names() == {"loss", "lr"}


class Twice(torch.optim.SGD):
    """An optimizer of the program's own, over one of PyTorch's."""

    fails = False

    def step(self, closure: Any = None) -> Any:
        if self.fails:
            raise RuntimeError("not now")
        super().step(closure)
        return super().step()


def test_step_that_calls_the_one_it_overrides(record: Recording) -> None:
    """PyTorch calls the hooks around both; it is one step all the same, also after one that raised."""
    model, x, y = regression()
    torch.optim.SGD(model.parameters(), lr=0.1)  # so that SGD.step is hooked, as well as Twice.step
    optimizer = Twice(model.parameters(), lr=0.1)
    truth = []
    for turn in range(6):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.fails = turn == 2
        if turn == 2:
            with pytest.raises(RuntimeError, match="not now"):
                optimizer.step()
            truth.append(loss.item())
            continue
        optimizer.step()
        if turn == 3:
            truth[-1] += loss.item()
        else:
            truth.append(loss.item())
    assert record.series("loss") == numbered(truth)
    assert record.step == 4


def test_closure_of_an_overridden_step(record: Recording) -> None:
    """The closure is counted once, whichever of the two steps calls it."""

    class Own(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            return super().step(closure)

    model, x, y = regression()
    optimizer, calls = Own(model.parameters(), lr=0.1), 0

    def closure() -> torch.Tensor:
        nonlocal calls
        calls += 1
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        return loss

    truth = [optimizer.step(closure).item() for _ in range(3)]
    assert (calls, record.series("loss")) == (3, numbered(truth))
