"""The fingerprint of weights: one and the same in files of every format, in parts of checkpoints, and in memory."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn

from looptap.arrays.files import weights_in
from looptap.arrays.modules import weights_of
from looptap.events import File
from looptap.serving import origins


class Net(nn.Module):
    """Tied weights, an empty array, one without dimensions, a buffer that no file has, types of two and eight bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.given = nn.Embedding(7, 4)
        self.norm = nn.BatchNorm1d(4)
        self.inner = nn.Sequential(nn.Linear(4, 4, bias=False, dtype=torch.bfloat16), nn.Linear(4, 4))
        self.made = nn.Linear(4, 7)
        self.made.weight = self.given.weight
        self.register_buffer("none", torch.zeros(0, 4))
        self.register_buffer("passing", torch.ones(3), persistent=False)


def net(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return Net()


def file(path: Path | str, kind: str | None = "model") -> File:
    found = os.stat(path)
    return File(str(path), "model", 1, found.st_size, found.st_mtime_ns, kind=kind, inode=found.st_ino)


def optimizer_of(model: nn.Module) -> dict[str, Any]:
    optimizer = torch.optim.Adam(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return optimizer.state_dict()


def without_aliases(model: nn.Module) -> dict[str, Any]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


WRITERS: dict[str, Callable[[Net, Path], None]] = {
    "state dict": lambda model, path: torch.save(model.state_dict(), path),
    "safetensors": lambda model, path: save_file(without_aliases(model), path),
    "safetensors without what is tied": lambda model, path: save_model(model, str(path)),
    "with other names": lambda model, path: torch.save(
        {f"module.{name}": tensor for name, tensor in reversed(model.state_dict().items())}, path
    ),
    "checkpoint": lambda model, path: torch.save(
        {
            "epoch": 3,
            "loss": torch.tensor(0.5),
            "optimizer": optimizer_of(net(1)),
            "sharded": {"state": {"weight": {"exp_avg": torch.ones(9_999)}}},
            "history": {str(number): torch.tensor(0.5) for number in range(50)},
            "model": model.state_dict(),
            "args": (1, [torch.ones(9)]),
        },
        path,
    ),
    "nested, in another protocol": lambda model, path: torch.save(
        {
            "nets": {"small": {"bias": torch.ones(2)}, "large": model.state_dict()},
            "state": {0: {"mean": torch.ones(999)}},
        },
        path,
        pickle_protocol=4,
    ),
    "a copy of itself": lambda model, path: torch.save(
        {"ema": model.state_dict(), "model": without_aliases(model)}, path
    ),
    "views of one storage": lambda model, path: torch.save(views(model), path),
}


def views(model: nn.Module) -> dict[str, Any]:
    state = {name: tensor for name, tensor in model.state_dict().items() if tensor.dtype == torch.float32}
    flat, found, at = torch.cat([tensor.reshape(-1) for tensor in state.values()]), {}, 0
    for name, tensor in state.items():
        found[name] = flat[at : at + tensor.numel()].view(tensor.shape)
        at += tensor.numel()
    return {**model.state_dict(), **found}


@pytest.mark.parametrize("name", WRITERS)
def test_one_print(tmp_path: Path, name: str) -> None:
    """However the weights are written; of other weights it is another."""
    found = set()
    for seed in (0, 1):
        model = net(seed)
        told = weights_of(model)
        WRITERS[name](model, tmp_path / "file")
        assert weights_in(file(tmp_path / "file")) == told
        found.add(told)
    assert len(found) == 2
    assert None not in found


def test_a_module_as_a_whole(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Sequential(nn.Linear(3, 2)))
    torch.save({"model": model, "optimizer": optimizer_of(model)}, tmp_path / "file")
    assert weights_in(file(tmp_path / "file")) == weights_of(model)


def test_one_number_is_another_print() -> None:
    """So is another type, or another shape; the place of an array in the module is none."""
    model: Any = net()
    fingerprints = {weights_of(model)}
    with torch.no_grad():
        model.inner[1].bias[2] += 1e-3
    fingerprints.add(weights_of(model))
    model.inner[1].bias = nn.Parameter(model.inner[1].bias[None])
    fingerprints.add(weights_of(model))
    fingerprints.add(weights_of(model.half()))
    assert len(fingerprints) == 4
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    assert weights_of(nn.Sequential(first, second)) == weights_of(nn.Sequential(second, first))


def test_a_module_is_told_as_it_lies_in_a_file() -> None:
    """Not as it lies in memory."""
    model: Any = nn.Conv2d(4, 3, 2)
    told = weights_of(model)
    assert weights_of(model.to(memory_format=torch.channels_last)) == told
    assert not model.weight.is_contiguous()


def test_no_print_of_a_module() -> None:
    """Which has something that a file could not be compared with: on a device, without numbers, of a class of its own, or kept
    by somebody else. None either of a module without weights."""

    class Own(torch.Tensor):
        pass

    class Keeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("own", torch.ones(2).as_subclass(Own))

    models: list[Any] = [
        nn.Linear(2, 2, device="meta"),
        nn.LazyLinear(3),
        Keeps(),
        nn.Sequential(nn.Linear(2, 2), nn.utils.skip_init(nn.Linear, 2, 2, device="meta")),
        nn.Linear(2, 2, dtype=torch.complex64),
        nn.ReLU(),
    ]
    models[4].weight = nn.Parameter(models[4].weight.detach().conj())
    assert [weights_of(model) for model in models] == [None] * 6


def test_the_program_is_not_asked() -> None:
    """Whatever it has made of the methods of its module."""

    class Odd(nn.Linear):
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(name)

        def state_dict(self, *args: Any, **kwargs: Any) -> Any:
            raise AssertionError

        named_parameters = parameters = modules = children = state_dict

    model = nn.Linear(2, 3)
    told = weights_of(model)
    model.__class__ = Odd
    assert weights_of(model) == told


class Dangerous:
    def __reduce__(self) -> Any:
        return os.mkdir, ("done",)


@pytest.mark.parametrize("where", ["beside", "instead"])
def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """What a pickle would call is not called."""
    monkeypatch.chdir(tmp_path)
    model = net()
    torch.save({"model": model.state_dict(), "odd": Dangerous()} if where == "beside" else Dangerous(), "file")
    assert weights_in(file("file")) == (weights_of(model) if where == "beside" else None)
    assert not Path("done").exists()


def test_no_print_of_a_file(tmp_path: Path) -> None:
    """That has no weights, or some that lie in it in another order, or that only looks like one; of no kind that is asked about."""
    model = net()
    transposed = {"weight": torch.ones(2, 3).T}
    torch.save({"model": transposed}, tmp_path / "transposed")
    torch.save(optimizer_of(model), tmp_path / "optimizer")
    torch.save({"model": {"weight": torch.eye(2).to_sparse(), "bias": torch.ones(2)}}, tmp_path / "sparse")
    torch.save([1, 2], tmp_path / "numbers")
    torch.save(model.state_dict(), tmp_path / "old", _use_new_zipfile_serialization=False)
    torch.save(model.state_dict(), tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "text").write_text("PK or {")
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps({"model": [1]}))
    rewritten(tmp_path / "whole", tmp_path / "compressed", zipfile.ZIP_DEFLATED)
    rewritten(tmp_path / "whole", tmp_path / "cut short", most_bytes=8)
    sparse = nn.Linear(2, 2)
    sparse.register_buffer("odd", torch.eye(2).to_sparse())
    torch.save(sparse, tmp_path / "sparse module")
    header = json.dumps({"weight": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "short").write_bytes(len(header).to_bytes(8, "little") + header + b"0000")
    for path in tmp_path.iterdir():
        assert (weights_in(file(path)) is None) is (path.name != "whole"), path
    assert weights_in(file(tmp_path / "whole", kind=None)) is None


def rewritten(source: Path, target: Path, how: int = zipfile.ZIP_STORED, most_bytes: int = 10**6) -> None:
    """The same archive with its storages in another form."""
    with zipfile.ZipFile(source) as before, zipfile.ZipFile(target, "w") as after:
        for name in before.namelist():
            is_storage = "/data/" in name
            content = before.read(name)
            after.writestr(name, content[:most_bytes] if is_storage else content, how if is_storage else None)


def test_of_a_file_that_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    torch.save(net().state_dict(), path)
    before = file(path)
    torch.save(net(1).state_dict(), path)
    os.utime(path, ns=(1, 1))
    assert weights_in(before) is None
    os.remove(path)
    assert weights_in(before) is None
    assert origins.digest(before) is None


def test_large_weights_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = net()
    torch.save(model.state_dict(), tmp_path / "file")
    save_model(model, str(tmp_path / "safe"))
    size = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    for most, is_told in ((size - 1, False), ((tmp_path / "safe").stat().st_size, True)):
        monkeypatch.setattr("looptap.arrays.fingerprints.MOST_BYTES", most)
        told = [weights_in(file(tmp_path / name)) for name in ("file", "safe")]
        assert [one is not None for one in (*told, weights_of(model))] == [is_told] * 3
