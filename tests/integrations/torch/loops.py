"""What loops in tests are made of."""

from __future__ import annotations

import torch
from packaging.version import Version
from torch import nn

from integrations.recording import Recording

#: Fused optimizers run on the CPU from 2.4 on.
HAS_FUSED = Version(torch.__version__) >= Version("2.4")


def numbered(values: list[float]) -> list[tuple[int, float]]:
    """A value for each step from 0."""
    return list(enumerate(values))


def regression(count: int = 32) -> tuple[nn.Linear, torch.Tensor, torch.Tensor]:
    """A model and its data."""
    return nn.Linear(3, 1), torch.randn(count, 3), torch.randn(count, 1)


def trains(record: Recording, steps: int = 3) -> None:
    """From here on a plain loop is recorded right."""
    model, x, y = regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    truth = []
    for _ in range(steps):
        optimizer.zero_grad()
        after = nn.functional.mse_loss(model(x), y)
        after.backward()
        optimizer.step()
        truth.append(after.item())
    first = record.step - steps + 1
    assert record.series("after") == [(first + index, value) for index, value in enumerate(truth)]
