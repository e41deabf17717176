"""Files of safetensors, by every front end that is there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import safetensors.torch
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from integrations.recording import Recording, recorded
from looptap_integrations.safetensors import (
    SafetensorsIntegration,
    SafetensorsNumpyIntegration,
    SafetensorsTorchIntegration,
)

ALL = (SafetensorsIntegration, SafetensorsTorchIntegration, SafetensorsNumpyIntegration)


@pytest.fixture
def record() -> Iterator[Recording]:
    with recorded(*ALL) as recording:
        yield recording


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def told(record: Recording) -> list[tuple[str, str]]:
    assert all(file["kind"] == "model" and file["step"] is None for file in record.files)
    return [(os.path.basename(file["path"]), file["role"]) for file in record.files]


def test_written(record: Recording) -> None:
    """Also by functions that were imported by name before we came, and through the layers above them."""
    save_file({"a": torch.ones(2)}, "by_name.safetensors", metadata={"format": "pt"})
    safetensors.torch.save_file({"a": torch.ones(2)}, Path("torch.safetensors"))
    safetensors.torch.save_model(nn.Linear(2, 1), "model.safetensors")
    safetensors.numpy.save_file({"a": np.ones(2)}, filename="numpy.safetensors")
    assert safetensors.torch.save({"a": torch.ones(2)})  # into memory
    with pytest.raises(Exception, match="no/such"):
        save_file({"a": torch.ones(2)}, "no/such/folder.safetensors")
    names = ["by_name.safetensors", "torch.safetensors", "model.safetensors", "numpy.safetensors"]
    assert told(record) == [(name, "output") for name in names]


def test_read(record: Recording) -> None:
    """By each function, once; what they return is right, and what they raise is theirs."""
    weights = {"weight": torch.ones(1, 2), "bias": torch.zeros(1)}
    names = ["by_name", "model", "numpy", "opened"]
    with record.suppress():
        for name in names:
            save_file(weights, f"{name}.safetensors")
    for _ in range(2):
        assert load_file("by_name.safetensors")["weight"].tolist() == [[1, 1]]
    model = nn.Linear(2, 1)
    assert safetensors.torch.load_model(model, "model.safetensors") == (set(), [])
    assert safetensors.numpy.load_file("numpy.safetensors")["bias"].tolist() == [0]
    with safetensors.safe_open("opened.safetensors", framework="pt") as file:
        assert sorted(file.keys()) == ["bias", "weight"]
    with pytest.raises(FileNotFoundError):
        load_file("none.safetensors")
    Path("broken.safetensors").write_bytes(b"no header")
    with pytest.raises(safetensors.SafetensorError):
        load_file("broken.safetensors")
    assert told(record) == [(f"{name}.safetensors", "input") for name in names]


def test_safe_open_is_a_class_still(record: Recording) -> None:
    """Programs that ask what something is, or write it into an annotation, get the answers that they had."""
    with record.suppress():
        save_file({"a": torch.ones(2)}, "one.safetensors")
    stand_in = safetensors.safe_open
    assert stand_in is not safe_open
    with safe_open("one.safetensors", framework="pt") as plain, stand_in("one.safetensors", framework="pt") as file:
        assert isinstance(file, stand_in)
        assert isinstance(file, safe_open)
        assert isinstance(plain, stand_in)
        assert type(file) is safe_open
    assert isinstance(stand_in, type)
    assert issubclass(safe_open, stand_in)
    assert stand_in | None
    assert (stand_in.__name__, stand_in.__doc__) == (safe_open.__name__, safe_open.__doc__)
    assert stand_in.get_tensor is safe_open.get_tensor


def test_everything_is_undone() -> None:
    """Class and functions are the identical objects again."""
    modules = (safetensors, safetensors.torch, safetensors.numpy)
    before = [(vars(module)["safe_open"], vars(module)["serialize_file"]) for module in modules]
    with recorded(*ALL):
        assert safetensors.safe_open is not before[0][0]
    assert [(vars(module)["safe_open"], vars(module)["serialize_file"]) for module in modules] == before
