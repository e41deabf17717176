"""Progress bars: the numbers beside them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset
from tqdm import auto, notebook, tqdm

from integrations.recording import Recording, recorded
from looptap_integrations.torch import TorchIntegration
from looptap_integrations.tqdm import TqdmIntegration


@pytest.fixture
def record() -> Iterator[Recording]:
    torch.manual_seed(0)
    with recorded(TorchIntegration, TqdmIntegration) as recording:
        yield recording


def bar(things: Any, kind: Any = tqdm) -> Any:
    return kind(things, file=io.StringIO(), mininterval=0)


def step(weights: torch.Tensor, optimizer: torch.optim.Optimizer) -> float:
    optimizer.zero_grad()
    loss = (weights**2).sum()
    loss.backward()
    optimizer.step()
    return loss.item()


@pytest.mark.parametrize("kind", [tqdm, auto.tqdm])
def test_numbers_of_each_step(record: Recording, kind: Any) -> None:
    """A dict and keywords; text is no number; what is on record already is no second point."""
    weights = torch.ones(2, requires_grad=True)
    optimizer = torch.optim.SGD([weights], lr=0.1)
    losses, output = [], bar(range(3), kind)
    for index in output:
        losses.append(step(weights, optimizer))
        output.set_postfix({"index": index, "text": f"{losses[-1]:.2f}"}, loss=losses[-1], best=min(losses) / 2)
        output.set_postfix({"index": 100 + index})
    assert record.series("index") == [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert record.series("best") == [(index, loss / 2) for index, loss in enumerate(losses)]
    assert record.series("loss") == list(enumerate(losses))
    assert "text" not in record.names()


def test_before_the_step_is_over(record: Recording) -> None:
    """Shown between backward and step, a loss is still one point; another number of that name is kept."""
    weights = torch.ones(2, requires_grad=True)
    optimizer = torch.optim.SGD([weights], lr=0.1)
    losses, output = [], bar(range(3))
    for index in output:
        optimizer.zero_grad()
        loss = (weights**2).sum()
        losses.append(loss.item())
        loss.backward()
        output.set_postfix(loss=losses[-1] if index != 2 else 7.0)
        optimizer.step()
    assert record.series("loss") == [(0, losses[0]), (1, losses[1]), (2, 7.0), (2, losses[2])]


def test_the_last_number_of_a_validation_pass(record: Recording) -> None:
    """A running mean is right when the pass is over."""
    weights = torch.ones(2, requires_grad=True)
    optimizer = torch.optim.SGD([weights], lr=0.1)
    val_loader = DataLoader(TensorDataset(torch.arange(6.0)), batch_size=2)
    expected = []
    with recorded(TorchIntegration, TqdmIntegration) as record:
        for index in range(2):
            step(weights, optimizer)
            output, total = bar(val_loader), 0.0
            with torch.no_grad():
                for (x,) in output:
                    total += (weights.sum() * x.sum()).item()
                    output.set_postfix(total=total)
            expected.append((index, total))
    assert record.series("validation/total") == expected
    assert "total" not in record.names()


def test_no_training_no_record(record: Recording) -> None:
    """A bar of anything else is no run."""
    output = bar(range(2))
    for index in output:
        output.set_postfix(index=index)
    assert record.points == []
    assert record.generation == 0


def test_notebooks_inherit_it() -> None:
    """There is one function for all kinds of bars."""
    with recorded(TqdmIntegration):
        assert notebook.tqdm.set_postfix is tqdm.set_postfix
        assert auto.tqdm.set_postfix is tqdm.set_postfix
