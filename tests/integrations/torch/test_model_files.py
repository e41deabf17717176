"""Files written and read by PyTorch's own functions: which calls are seen, and that nobody notices."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.version import Version
from torch import nn
from torch.utils.data import DataLoader, Dataset

from integrations.recording import Recording, recorded
from looptap_integrations.torch import TorchIntegration
from looptap_integrations.torch.onnx_files import OnnxFilesIntegration

IS_BEFORE_2_6 = Version(torch.__version__) < Version("2.6")


@pytest.fixture
def record() -> Iterator[Recording]:
    with recorded(TorchIntegration, OnnxFilesIntegration) as recording:
        yield recording


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def train(model: nn.Module) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()


def told(record: Recording) -> list[tuple[str, str, int | None]]:
    assert all(file["kind"] == "model" for file in record.files)
    return [(os.path.basename(file["path"]), file.get("role", "output"), file["step"]) for file in record.files]


def test_every_way_to_write(record: Recording) -> None:
    """Each file once, with the step, however many functions of PyTorch are in each other."""
    model = nn.Linear(3, 1)
    train(model)
    torch.save(model, "pickle.pt")
    torch.save(model.state_dict(), f="keyword.pt", _use_new_zipfile_serialization=False)
    scripted = torch.jit.script(model)
    torch.jit.save(scripted, "jit.pt")
    scripted.save("script.pt")
    torch.jit.trace(model, torch.ones(1, 3)).save("traced.pt")
    program = torch.export.export(model.eval(), (torch.ones(1, 3),))
    torch.export.save(program, "program.pt2")
    names = ["pickle.pt", "keyword.pt", "jit.pt", "script.pt", "traced.pt", "program.pt2"]
    assert told(record) == [(name, "output", 0) for name in names]


@pytest.mark.skipif(IS_BEFORE_2_6, reason="export() returns a program from 2.6 on")
def test_onnx(record: Recording) -> None:
    """A file that is exported to, a program that is saved later, and the weights beside it."""
    model = nn.Linear(3, 1).eval()
    torch.onnx.export(model, (torch.ones(1, 3),), "exported.onnx", external_data=False, verbose=False)
    program = torch.onnx.export(nn.Linear(64, 64).eval(), (torch.ones(1, 64),), verbose=False)
    assert program is not None
    program.save("saved.onnx", external_data=True)
    buffer: Any = io.BytesIO()
    torch.onnx.export(model, (torch.ones(1, 3),), buffer, dynamo=False)
    assert told(record) == [(name, "output", None) for name in ("exported.onnx", "saved.onnx", "saved.onnx.data")]


def test_every_way_to_read(record: Recording) -> None:
    """What is read is an input, once; result and arguments are the user's own."""
    model = nn.Linear(3, 1)
    with record.suppress():
        torch.save(model.state_dict(), "weights.pt")
        torch.save(model, "whole.pt")
        torch.jit.save(torch.jit.script(model), "jit.pt")
        torch.export.save(torch.export.export(model, (torch.ones(1, 3),)), "program.pt2")
    for more in ({}, {"mmap": True}, {"map_location": "meta", "weights_only": True}, {"map_location": "cpu"}):
        found = torch.load("weights.pt", **more)
        assert found["weight"].device.type == more.get("map_location", "cpu")
    assert torch.equal(torch.load(f=Path("whole.pt"), weights_only=False).weight, model.weight)
    with open("whole.pt", "rb") as file:
        torch.load(file, weights_only=False)
    assert torch.equal(torch.jit.load("jit.pt").weight, model.weight)
    program: Any = torch.export.load("program.pt2").module()
    assert torch.equal(program.weight, model.weight)
    train(model)
    torch.load("weights.pt")
    torch.save(model.state_dict(), "weights.pt")
    torch.load("weights.pt")
    names = ["weights.pt", "whole.pt", "jit.pt", "program.pt2"]
    assert told(record) == [*((name, "input", None) for name in names), ("weights.pt", "output", 0)]


def test_open_file_is_known_by_its_name(record: Recording) -> None:
    """A file object has its path; an archive within a file, a buffer and a nameless file have none."""
    with record.suppress():
        torch.save(torch.ones(2), "one.pt")
    with open("one.pt", "rb") as file:
        assert torch.load(file).tolist() == [1, 1]
    content = Path("one.pt").read_bytes()
    with zipfile.ZipFile("many.zip", "w") as archive:
        archive.writestr("inner.pt", content)
    with zipfile.ZipFile("many.zip") as archive, archive.open("inner.pt") as inner:
        torch.load(io.BytesIO(inner.read()))
    torch.load(io.BytesIO(content))
    descriptor = os.open("one.pt", os.O_RDONLY)
    with open(descriptor, "rb") as file:  # its name is a number
        torch.load(file)
    assert told(record) == [("one.pt", "input", None)]


def test_errors_are_the_users(record: Recording) -> None:
    """What is not there, is no checkpoint, or may not be unpickled raises as without us, and is no input."""
    Path("broken.pt").write_bytes(b"nothing of the kind")
    with record.suppress():
        torch.save(nn.Linear(1, 1), "whole.pt")
    with pytest.raises(FileNotFoundError):
        torch.load("none.pt")
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        torch.load("whole.pt", weights_only=True)  # the default from 2.6 on
    with pytest.raises(pickle.UnpicklingError):
        torch.load("broken.pt")
    with pytest.raises(TypeError):
        torch.load()  # type: ignore[call-arg]
    with pytest.raises((ValueError, RuntimeError)):
        torch.jit.load("none.pt")
    assert record.files == []


class Tensors(Dataset[torch.Tensor]):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.full((2,), float(index))


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_pickles_that_travel_between_workers(
    record: Recording, start: Any, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config
) -> None:
    """Batches from the workers of a DataLoader are no files. (What the workers read and write is none of the run's either:
    tests/agent/test_file_programs.py.)"""
    monkeypatch.syspath_prepend(str(pytestconfig.rootpath))  # a spawned worker imports this module
    loader = DataLoader(Tensors(), batch_size=2, num_workers=2, multiprocessing_context=start)
    assert [batch.tolist() for batch in loader] == [[[0, 0], [1, 1]], [[2, 2], [3, 3]]]
    assert record.files == []


def test_a_file_that_is_still_open(record: Recording) -> None:
    """It is a file of the step at which it was written to, and on record once the program has closed it."""
    model = nn.Linear(3, 1)
    train(model)
    with open("open.pt", "wb") as file:
        torch.save(model.state_dict(), file)
        train(model)
        file.write(b"more")
        assert record.files == []
    train(model)
    assert told(record) == [("open.pt", "output", 0)]


def test_functions_come_back(record: Recording) -> None:
    """They pickle as what they are while they are observed."""
    for function in (torch.save, torch.load, torch.jit.save, torch.jit.load):
        assert pickle.loads(pickle.dumps(function)) is function


def test_everything_is_undone() -> None:
    """After the end every function is the identical object again."""
    before = _functions()
    with recorded(TorchIntegration, OnnxFilesIntegration):
        during = _functions()
        assert all(one is not other for one, other in zip(before, during, strict=True))
    after = _functions()
    assert all(one is other for one, other in zip(before, after, strict=True))


def _functions() -> list[Any]:
    return [
        torch.save,
        torch.load,
        torch.serialization.save,
        torch.serialization.load,
        torch.jit.save,
        torch.jit.load,
        vars(torch.jit._script.RecursiveScriptModule)["save"],
        torch.export.save,
        torch.export.load,
        torch.onnx.export,
    ]
