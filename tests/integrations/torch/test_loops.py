"""Training loops: what is recorded is what the program itself would have written down, to the last bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from integrations.recording import Recording, recorded
from integrations.torch.loops import HAS_FUSED, numbered, regression
from looptap_integrations.torch import TorchIntegration

OPTIMIZERS: list[Any] = [
    lambda p: torch.optim.SGD(p, lr=0.1),
    lambda p: torch.optim.Adam(p, lr=0.01),
    lambda p: torch.optim.AdamW(p, lr=0.01, fused=HAS_FUSED),
    lambda p: torch.optim.RMSprop(p),
    lambda p: torch.optim.Adagrad(p),
]


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_plain_loop(record: Recording, make: Any) -> None:
    """Every step has its loss, by its name, from 0."""
    model, x, y = regression()
    optimizer = make(model.parameters())
    truth = []
    for _ in range(6):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        truth.append(loss.item())
    assert record.series("loss") == numbered(truth)
    assert record.step == 5
    assert record.names() == {"loss", "lr", "step_time"}
    assert [step for step, _ in record.series("step_time")] == [1, 2, 3, 4, 5]


def test_nan_and_infinity_are_values(record: Recording) -> None:
    """A loss that is NaN or infinite is recorded as it is."""
    weight = torch.ones(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.0)
    for factor in (float("nan"), float("inf"), float("-inf"), 1.0):
        loss = weight.sum() * 0.0 + factor
        loss.backward()
        optimizer.step()
    assert [repr(value) for value in record.values("loss")] == ["nan", "inf", "-inf", "1.0"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_every_float_type_is_read_exactly(record: Recording, dtype: torch.dtype) -> None:
    """The number is the tensor's own, widened to float64."""
    weight = torch.full((1,), 0.1, dtype=dtype, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    loss = (weight * weight).sum()
    loss.backward()
    optimizer.step()
    assert record.values("loss") == [loss.item()]


@pytest.mark.parametrize("divisor", [1, 4])
def test_gradient_accumulation(record: Recording, divisor: int) -> None:
    """The step is the optimizer's: its loss is the sum of what was backwarded for it, and the effective batch says so."""
    model, x, y = regression(64)
    loader = DataLoader(TensorDataset(x, y), batch_size=8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    truth, total = [], 0.0
    for _ in range(2):
        for index, (inputs, targets) in enumerate(loader):
            loss = nn.functional.mse_loss(model(inputs), targets) / divisor
            loss.backward()
            total += loss.item()
            if index % 4 == 3:
                optimizer.step()
                optimizer.zero_grad()
                truth.append(total)
                total = 0.0
    assert record.series("loss") == numbered(truth)
    assert record.params_by_key()["batch_size_effective"] == 32
    assert record.series("epoch") == [(0, 0.0), (2, 1.0)]


def test_division_in_the_call(record: Recording) -> None:
    """``(loss / n).backward()`` is recorded under the variable's name, with the value that was backwarded."""
    model, x, y = regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    n = 2
    truth = []
    for _ in range(3):
        total = 0.0
        for _ in range(n):
            error = nn.functional.mse_loss(model(x), y)
            (error / n).backward()
            total += (error / n).item()
        optimizer.step()
        truth.append(total)
    assert record.series("error") == numbered(truth)


def test_optimizer_made_before_us() -> None:
    """autolog() after the optimizer was made: accumulation is still not mistaken for hand-written updates."""
    model, x, y = regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with recorded(TorchIntegration) as record:
        truth = []
        for _ in range(2):
            total = 0.0
            for _ in range(3):
                loss = nn.functional.mse_loss(model(x), y)
                loss.backward()
                total += loss.item()
            optimizer.step()
            truth.append(total)
        assert record.series("loss") == numbered(truth)


def test_suppressed_training_leaves_nothing(record: Recording) -> None:
    """What runs under suppress() is neither recorded nor counted."""
    model, x, y = regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with record.suppress():
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
    loss = nn.functional.mse_loss(model(x), y)
    loss.backward()
    optimizer.step()
    assert record.series("loss") == [(0, loss.item())]


def test_second_run_starts_anew(record: Recording) -> None:
    """A run that begins later in the process counts from 0 and has its own params."""
    model, x, y = regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for run in range(2):
        if run:
            record.points.clear()
            record.written.clear()
            record.new_run()
        for _ in range(2):
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
        assert [step for step, _ in record.series("loss")] == [0, 1]
        assert record.series("lr") == [(0, 0.1)]
        assert record.params_by_key()["optimizer.lr"] == 0.1
        assert record.params_by_key()["model.parameters"] == 4


def test_own_metrics_belong_to_the_step_that_is_under_way(record: Recording) -> None:
    """Without a step: from the batch on it is the coming step, after it that step, and what follows a validation is of the last."""
    model, x, y = regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train = DataLoader(TensorDataset(x, y), batch_size=8)
    validation = DataLoader(TensorDataset(x, y), batch_size=16)
    for epoch in range(2):
        for features, targets in train:
            record.log_metrics({"batch": 1.0})
            loss = nn.functional.mse_loss(model(features), targets)
            loss.backward()
            record.log_metrics({"before": 1.0})
            optimizer.step()
            record.log_metrics({"after": 1.0})
        for _ in validation:
            record.log_metrics({"validation": 1.0})
        record.log_metrics({"epoch_end": float(epoch)})
    steps = list(range(8))
    for key in ("batch", "before", "after"):
        assert [step for step, _ in record.series(key)] == steps
    assert [step for step, _ in record.series("validation")] == [3, 3, 7, 7]
    assert [step for step, _ in record.series("epoch_end")] == [3, 7]


def test_the_training_loader_without_a_step_is_no_epoch(record: Recording) -> None:
    """A look at a batch before the training, the model's evaluation on what it was trained on, and one step after each pass."""
    model, x, y = regression(16)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = DataLoader(TensorDataset(x, y), batch_size=8)
    next(iter(loader))
    for is_whole in (False, False, True, True):
        for inputs, targets in loader:
            loss = nn.functional.mse_loss(model(inputs), targets)
            loss.backward()
            if not is_whole:
                optimizer.step()
        if is_whole:
            optimizer.step()
        with torch.no_grad():
            for inputs, targets in loader:
                nn.functional.mse_loss(model(inputs), targets)
    assert record.series("epoch") == [(0, 0.0), (2, 1.0), (4, 2.0), (5, 3.0)]


def test_validation_loader_does_not_count_as_epoch(record: Recording) -> None:
    """The epoch is that of the loader which fed the step; passes over another one do not matter."""
    model, x, y = regression(16)
    loader = DataLoader(TensorDataset(x, y), batch_size=8)
    validation = DataLoader(TensorDataset(x, y), batch_size=4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        for inputs, targets in loader:
            nn.functional.mse_loss(model(inputs), targets).backward()
            optimizer.step()
        for inputs, _ in validation:
            model(inputs)
    assert record.series("epoch") == [(0, 0.0), (2, 1.0), (4, 2.0)]
    assert len(record.series("step_time")) == 6
    assert record.params_by_key()["data.batch_size"] == 8


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_a_loader(record: Recording, method: str) -> None:
    """With persistent workers the same iterator serves every epoch; the workers themselves record nothing."""
    model, x, y = regression(16)
    loader = DataLoader(
        TensorDataset(x, y), batch_size=8, num_workers=1, persistent_workers=True, multiprocessing_context=method
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        for inputs, targets in loader:
            loss = nn.functional.mse_loss(model(inputs), targets)
            loss.backward()
            optimizer.step()
    assert record.series("epoch") == [(0, 0.0), (2, 1.0)]
    assert len(record.series("loss")) == 4
