"""What is told of data; and nothing of the program's is called for that."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch.utils.data import (
    DataLoader,
    Dataset,
)

import looptap.events
from integrations.recording import Recording, recorded
from integrations.torch.feeding import Stream, model_and_optimizer, one_described, train
from looptap.describing import Description
from looptap_collector.testing.batches import Journal, started
from looptap_collector.validation import check
from looptap_integrations.numpy_files import NumpyFilesIntegration
from looptap_integrations.torch import TorchIntegration


@pytest.fixture
def record() -> Iterator[Recording]:
    with recorded(TorchIntegration, NumpyFilesIntegration) as recording:
        yield recording


class Counting(Dataset[torch.Tensor]):
    """Counts what is asked of it."""

    def __init__(self, size: int = 12) -> None:
        self.size = size
        self.calls: list[str] = []

    def __len__(self) -> int:
        self.calls.append("len")
        return self.size

    def __getitem__(self, index: int) -> torch.Tensor:
        self.calls.append(f"item {index}")
        return torch.full((3,), float(index)) + torch.rand(3) + random.random() + numpy.random.rand()


class Pictures(Dataset[torch.Tensor]):
    """Of the shape that those of torchvision have."""

    def __init__(self, root: str, train: bool = True, transform: Any = None) -> None:
        self.root = root
        self.train = train
        self.transform = transform
        self.data = [torch.ones(3)] * 6

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.data[index]


class Normalize:
    def __init__(self, mean: list[float]) -> None:
        self.mean = mean


def whole_training(datasets: list[Any]) -> list[Any]:
    """Train on the first, validate with the others; give back all that could differ with and without us."""
    torch.manual_seed(1)
    random.seed(1)
    numpy.random.seed(1)
    model, optimizer = model_and_optimizer()
    for _ in range(2):
        train(DataLoader(datasets[0], batch_size=3, shuffle=not isinstance(datasets[0], Stream)), model, optimizer)
        for dataset in datasets[1:]:
            for batch in DataLoader(dataset, batch_size=4):
                with torch.no_grad():
                    model(batch)
    return [
        [dataset.calls for dataset in datasets],
        torch.get_rng_state().tolist(),
        random.getstate(),
        str(numpy.random.get_state()),
        [parameter.tolist() for parameter in model.parameters()],
    ]


@pytest.mark.parametrize("kinds", [(Counting, Counting), (Stream, Counting), (Counting, Stream)])
def test_nothing_is_iterated(kinds: tuple[type, ...]) -> None:
    """The same calls in the same order, the same random states and the same weights, with and without us."""
    without = whole_training([kind() for kind in kinds])
    with recorded(TorchIntegration, NumpyFilesIntegration) as recording:
        assert whole_training([kind() for kind in kinds]) == without
    assert {role for role, _ in recording.datasets} == {"train", "validation"}


def one_step(dataset: Any, record: Recording, **loader: Any) -> looptap.events.Dataset:
    """Train a step and give what was told of the data set."""
    model, optimizer = model_and_optimizer()
    for batch in DataLoader(dataset, **{"batch_size": 2, **loader}):
        model(batch[0] if isinstance(batch, list) else batch).sum().backward()
        optimizer.step()
        break
    record.settle(30)
    ((_, told),) = record.datasets.items()
    return told


def test_files_split_and_transform(record: Recording, tmp_path: Path) -> None:
    """Of a data set like those of torchvision."""
    root = tmp_path / "pictures"
    root.mkdir()
    (root / "a.png").write_bytes(b"123")
    told = one_step(Pictures(str(root), transform=Normalize([0.5])), record)
    assert (told.name, told.role, told.kind, told.length, told.split) == ("Pictures", "train", "torch", 6, "train")
    assert (told.root, told.transform) == (str(root), "Normalize(mean=[0.5])")
    assert told.class_name == f"{__name__}.Pictures"
    assert (told.covers, told.algorithm, told.details) == (
        "names, sizes, mtimes",
        "sha256",
        {"files": 1, "size_bytes": 3},
    )
    assert told.fingerprint is not None
    assert len(told.fingerprint) == 64


class Broken(Counting):
    def __len__(self) -> int:
        raise RuntimeError("no length")


class Blocked(Counting):
    def __len__(self) -> int:
        while True:
            pass


class Huge(Counting):
    def __len__(self) -> int:
        return 10**30


class Cheap(Counting):
    def __len__(self) -> int:
        return self.size


@pytest.mark.parametrize(
    ("kind", "length"), [(Broken, None), (Blocked, None), (Counting, None), (Cheap, 12), (Huge, None)]
)
def test_lengths(record: Recording, kind: type[Counting], length: int | None) -> None:
    """One that raises, that never returns, that counts, that is told by an attribute, or is too large: the program's own code is
    not run for it. That there is none is told."""
    dataset = kind()
    told = one_step(dataset, record, sampler=[0, 1, 2])
    assert told.length == length
    assert record.params_by_key().get("data.dataset_size") == length
    assert "len" not in dataset.calls
    if length is None:
        assert f"the length of {kind.__name__} is not recorded: its __len__ would have to be called" in record.notes


class Lazy(Dataset[torch.Tensor]):
    """Opens its file when it is first asked for an attribute that is not there."""

    def __init__(self, asked: list[str]) -> None:
        object.__setattr__(self, "asked", asked)

    def __getattr__(self, name: str) -> Any:
        self.__dict__["asked"].append(name)
        raise AttributeError(name)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.ones(3)

    def __len__(self) -> int:
        return 4


def test_lazy_attributes_stay_unloaded(record: Recording) -> None:
    """PyTorch asks for what is not there, and nobody else does."""
    asked: list[str] = []
    assert one_step(Lazy(asked), record).length == 4
    assert set(asked) == {"__getitems__"}


class Promising(Stream):
    """Its ``__len__`` could be told without running it."""

    def __len__(self) -> int:
        return 8


@pytest.mark.parametrize("kind", [Stream, Promising])
def test_stream(record: Recording, kind: type[Stream]) -> None:
    """A stream has no length, whatever it says, and no fingerprint."""
    told = one_step(kind(), record)
    assert (told.length, told.fingerprint, told.missing) == (
        None,
        None,
        "nothing that identifies its content is known",
    )


def test_hostile_names(record: Recording, tmp_path: Path) -> None:
    """Whatever a class or a folder is called arrives as text that every store takes."""
    name = "<img src=x onerror=alert(1)>'; DROP TABLE run; -- \x00 \ud800 \u202e" + "🦦" * 500
    kind = type(name.replace("\0", "0").replace("\ud800", ""), (Pictures,), {})
    told = one_described(record, kind("https://ada:secret@host/\ud800\n\x1b[31m" + "x" * 10_000))
    check(Journal().batch(started(), told))
    assert "secret" not in str(told)
    record.datasets.clear()
    record.dataset(Description(name, split=name, transform=name, details={name: [name] * 100}), role=name, name=name)
    for told in record.datasets.values():
        check(Journal().batch(started(), told))
