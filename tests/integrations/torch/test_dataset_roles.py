"""Which data trains, which validates and which tests."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import (
    DataLoader,
    Dataset,
    TensorDataset,
)

from integrations.recording import Recording
from integrations.torch.feeding import model_and_optimizer, train


def test_roles(record: Recording) -> None:
    """The loader of the steps trains; those of passes without gradients validate, wherever they are turned off, and test where
    the split says so. What was looked at before the training is neither."""
    model, optimizer = model_and_optimizer()
    trained, validated, tested, later, looked_at = (TensorDataset(torch.full((6, 3), float(n))) for n in range(5))
    tested.split = "test"  # type: ignore[attr-defined]
    for batch in DataLoader(looked_at, batch_size=2):
        batch[0].mean()
    for _ in range(2):
        train(DataLoader(trained, batch_size=2), model, optimizer)
        with torch.no_grad():
            for batch in DataLoader(validated, batch_size=2):
                model(batch[0])
        for batch in DataLoader(later, batch_size=2):
            with torch.no_grad():
                model(batch[0])
    assert roles(record) == {"train": [0.0], "validation": [1.0, 3.0]}
    tested_loader = DataLoader(Named(tested), batch_size=2)
    with torch.no_grad():
        for batch in tested_loader:
            model(batch[0])
    assert [name for role, name in record.datasets if role == "test"] == ["Named"]


class Named(Dataset[Any]):
    def __init__(self, inner: TensorDataset) -> None:
        self.inner, self.split = inner, "Test"

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> Any:
        return self.inner[index]


def roles(record: Recording) -> dict[str, list[float]]:
    """Which tensors have which role: by the fingerprint of tensors full of a number."""
    numbers = {print_of(record, TensorDataset(torch.full((6, 3), float(number)))): float(number) for number in range(5)}
    found: dict[str, list[float]] = {}
    for (role, _), told in record.datasets.items():
        if told.fingerprint in numbers:
            found.setdefault(role, []).append(numbers[told.fingerprint])
    return {role: sorted(these) for role, these in found.items()}


def print_of(record: Recording, dataset: Any) -> str | None:
    (part,) = record.describers.describe(dataset).parts
    assert not isinstance(part, str)
    return getattr(part, "value", None)


def test_several_loaders_feed_one_step(record: Recording) -> None:
    """Labelled and unlabelled data, batch beside batch: both train, and neither validates."""
    model, optimizer = model_and_optimizer()
    one, other = (TensorDataset(torch.full((6, 3), float(n))) for n in range(2))
    for first, second in zip(DataLoader(one, batch_size=2), DataLoader(other, batch_size=2), strict=True):
        (model(first[0]).sum() + model(second[0]).sum()).backward()
        optimizer.step()
    assert roles(record) == {"train": [0.0, 1.0]}


def test_one_look_at_a_batch_says_nothing(record: Recording) -> None:
    """A single batch with gradients, of whatever, in the middle of a training."""
    model, optimizer = model_and_optimizer()
    one, other = (TensorDataset(torch.full((6, 3), float(n))) for n in range(2))
    loader = DataLoader(one, batch_size=2)
    for _ in range(2):
        train(loader, model, optimizer)
        next(iter(DataLoader(other, batch_size=2)))
    assert roles(record) == {"train": [0.0]}


def test_same_data_trains_and_validates(record: Recording) -> None:
    """It is told in both roles, once each, however often."""
    model, optimizer = model_and_optimizer()
    dataset = TensorDataset(torch.ones(6, 3))
    for _ in range(3):
        train(DataLoader(dataset, batch_size=2), model, optimizer)
        with torch.no_grad():
            for batch in DataLoader(dataset, batch_size=2):
                model(batch[0])
    assert sorted(record.datasets) == [("train", "TensorDataset"), ("validation", "TensorDataset")]


def test_every_run_tells_its_own(record: Recording) -> None:
    """After another run has begun, the same loader is told again."""
    model, optimizer = model_and_optimizer()
    loader = DataLoader(TensorDataset(torch.ones(6, 3)), batch_size=2)
    train(loader, model, optimizer)
    record.datasets.clear()
    record.detach()
    record.new_run()
    train(loader, model, optimizer)
    assert list(record.datasets) == [("train", "TensorDataset")]


def test_suppressed(record: Recording) -> None:
    """What nothing shall be recorded of, is not."""
    model, optimizer = model_and_optimizer()
    with record.suppress():
        train(DataLoader(TensorDataset(torch.ones(6, 3)), batch_size=2), model, optimizer)
    assert record.datasets == {}
