"""What was set how: facts of the first step."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from integrations.recording import Recording, recorded
from looptap_integrations.torch import TorchIntegration


@pytest.fixture
def record() -> Iterator[Recording]:
    with recorded(TorchIntegration) as recording:
        yield recording


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Linear(3, 4).requires_grad_(False)
        self.head = nn.Linear(4, 1).double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.head(self.frozen(x).double())
        return result


class Stream(IterableDataset[torch.Tensor]):
    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(torch.randn(4, 3))


def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()


def test_model(record: Recording) -> None:
    """Class and number of parameters: all, trainable, by type; of the whole model, though only its head is trained."""
    model = Net()
    head = model.head
    train(model, torch.optim.SGD(head.parameters(), lr=0.1))
    params = record.params_by_key()
    assert params["model.class"].endswith("test_facts.Net")
    assert params["model.parameters"] == 21
    assert params["model.parameters_trainable"] == 5
    assert params["model.parameters_float32"] == 16
    assert params["model.parameters_float64"] == 5
    assert params["model.device"] == "cpu"
    assert record.sources()["model.class"] == "torch"


def test_compiled_model_is_named_by_the_users_class(record: Recording) -> None:
    """Wrappers of PyTorch are looked through."""
    model: Any = torch.compile(Net(), backend="eager")
    train(model, torch.optim.SGD(model.parameters(), lr=0.1))
    assert record.params_by_key()["model.class"].endswith("test_facts.Net")


def test_one_optimizer_over_two_models(record: Recording) -> None:
    """Where no model holds everything, those that share it are recorded by name."""
    encoder, decoder = nn.Linear(3, 2), nn.Linear(2, 1)
    optimizer = torch.optim.SGD([*encoder.parameters(), *decoder.parameters()], lr=0.1)
    decoder(encoder(torch.ones(1, 3))).sum().backward()
    optimizer.step()
    params = record.params_by_key()
    assert params["encoder.parameters"] == 8
    assert params["decoder.parameters"] == 3


def test_stream_without_length(record: Recording) -> None:
    """A loader over an iterable data set has no size, and is not asked for one."""
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x in DataLoader(Stream(), batch_size=2):
        model(x).sum().backward()
        optimizer.step()
    params = record.params_by_key()
    assert params["data.dataset"].endswith("test_facts.Stream")
    assert "data.dataset_size" not in params
    assert params["data.shuffle"] is False
    assert params["batch_size_effective"] == 2


def test_autocast(record: Recording) -> None:
    """The type of autocast, although backward runs outside of it; also when it comes up later."""
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train(model, optimizer)
    assert "autocast.dtype" not in record.params_by_key()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(torch.ones(2, 3)).sum()
    loss.backward()
    optimizer.step()
    assert record.params_by_key()["autocast.dtype"] == "bfloat16"


def test_seed_and_flags(record: Recording) -> None:
    """The seed in force and the determinism flags."""
    torch.manual_seed(1234)
    model = nn.Linear(3, 1)
    train(model, torch.optim.SGD(model.parameters(), lr=0.1))
    params = record.params_by_key()
    assert params["seed.torch"] == 1234
    assert params["deterministic.algorithms"] is False
    assert params["torch.threads"] == torch.get_num_threads()


def test_saved_files(record: Recording, tmp_path: Path) -> None:
    """A path is recorded at once, an open file when it is closed, a buffer and a failed save never."""
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.save(model.state_dict(), tmp_path / "start.pt")
    train(model, optimizer)
    with open(tmp_path / "one.pt", "wb") as file:
        torch.save(model.state_dict(), file)
        train(model, optimizer)
    torch.save(model.state_dict(), io.BytesIO())
    with pytest.raises(RuntimeError, match="does not exist"):
        torch.save(model.state_dict(), str(tmp_path / "no" / "folder.pt"))
    train(model, optimizer)
    assert record.files == [
        {"path": str(tmp_path / "start.pt"), "kind": "model", "step": None},
        {"path": str(tmp_path / "one.pt"), "kind": "model", "step": 0},
    ]


def test_a_length_that_raises_costs_only_itself(record: Recording) -> None:
    """A data set whose len() fails has none, it is not asked, and everything else is there."""

    class Broken(TensorDataset):
        fails = False

        def __len__(self) -> int:
            if Broken.fails:
                raise ValueError("mine")
            return super().__len__()

    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for (x,) in DataLoader(Broken(torch.ones(4, 3)), batch_size=4):
        Broken.fails = True
        model(x).sum().backward()
        optimizer.step()
    params = record.params_by_key()
    assert params["data.batch_size"] == 4
    assert params["optimizer.lr"] == 0.1
    assert "data.dataset_size" not in params
