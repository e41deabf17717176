"""A program that classifies: what tests of validation are made of."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import TensorDataset


class Program:
    """A model with data of 20 and 11 samples, in batches of 4: the last batch of the second is smaller."""

    def __init__(self) -> None:
        self.model = nn.Linear(3, 2)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.criterion = nn.CrossEntropyLoss()
        self.train_data = data(20)
        self.other_data = data(11)

    def step(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        self.optimizer.zero_grad()
        loss: torch.Tensor = self.criterion(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        return loss

    def truth(self, batches: Any) -> float:
        """The mean over all samples, computed where nothing is watched."""
        total, samples = 0.0, 0
        for x, y in batches:
            outputs = self.model(x)
            total += functional.log_softmax(outputs, 1)[range(len(y)), y].neg().mean().item() * len(y)
            samples += len(y)
        return total / samples


def data(count: int) -> TensorDataset:
    return TensorDataset(torch.randn(count, 3), torch.randint(2, (count,)))
