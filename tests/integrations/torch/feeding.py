"""What a training is fed with, and loops that are fed: for the tests of data sets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.data import (
    DataLoader,
    IterableDataset,
)

import looptap.events
from integrations.recording import Recording
from looptap.describing import Description


class Stream(IterableDataset[torch.Tensor]):
    def __init__(self) -> None:
        self.calls: list[str] = []

    def __len__(self) -> int:
        self.calls.append("len")
        raise RuntimeError("it would have to be downloaded")

    def __iter__(self) -> Iterator[torch.Tensor]:
        self.calls.append("iter")
        yield from torch.rand(8, 3)


def train(loader: DataLoader[Any], model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for batch in loader:
        loss = model(batch[0] if isinstance(batch, list) else batch).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def model_and_optimizer() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Linear(3, 1)
    return model, torch.optim.SGD(model.parameters(), lr=1e-6)


def described(record: Recording, dataset: Any) -> Description:
    return record.describers.describe(dataset)


def one_described(record: Recording, dataset: Any) -> looptap.events.Dataset:
    record.dataset(described(record, dataset))
    record.settle(30)
    ((_, told),) = record.datasets.items()
    return told
