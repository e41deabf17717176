"""Distributed checkpoints, of one process and of several real ones."""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint
import torch.multiprocessing
from packaging.version import Version
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter

from integrations.recording import Recording, recorded
from looptap_integrations.torch import TorchIntegration
from looptap_integrations.torch.sharded_files import ShardedFilesIntegration

# Neither says which of its names are public.
dcp: Any = torch.distributed.checkpoint
mp: Any = torch.multiprocessing
BOTH = ["out/.metadata", "out/__0_0.distcp"]
pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled", "ignore:`save_state_dict`", "ignore")


@pytest.fixture
def record() -> Iterator[Recording]:
    with recorded(TorchIntegration, ShardedFilesIntegration) as recording:
        yield recording


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def state() -> dict[str, torch.Tensor]:
    return {"weight": torch.arange(6.0)}


def names(record: Recording, role: str = "output") -> list[str]:
    return [file["name"] for file in record.files if file.get("role", "output") == role]


def test_saved_in_every_way(record: Recording) -> None:
    """By id, by writer, by the deprecated function: the files of the folder, each once."""
    dcp.save(state(), checkpoint_id="out")
    assert names(record) == BOTH
    dcp.save(state(), storage_writer=FileSystemWriter("written"))
    dcp.save_state_dict(state(), FileSystemWriter("old"), no_dist=True)
    assert names(record)[2:] == [
        *("written/.metadata", "written/__0_0.distcp", "old/.metadata", "old/__0_0.distcp"),
    ]
    with pytest.raises(CheckpointException):
        dcp.save(state(), checkpoint_id="/proc/nowhere")
    assert len(record.files) == 6


def test_saved_again(record: Recording) -> None:
    """Into the same folder: new versions of its files, and shards of another save that lie there are not this one's."""
    dcp.save(state(), checkpoint_id="out")
    Path("out/__7_0.distcp").write_bytes(b"of a rank that is no more")
    Path("out/__0_1.distcp").write_bytes(b"of a save that had more")
    for name in ("__0_0", "__0_1"):
        os.utime(f"out/{name}.distcp", ns=(1, 1))
    dcp.save({"weight": torch.ones(3)}, checkpoint_id="out")
    assert names(record) == BOTH * 2


@pytest.mark.skipif(
    Version(torch.__version__) < Version("2.4"), reason="async_save() needs a group of processes before 2.4"
)
@pytest.mark.parametrize("is_suppressed", [False, True])
def test_asynchronous(record: Recording, monkeypatch: pytest.MonkeyPatch, is_suppressed: bool) -> None:
    """On record when it is complete, as what it was when it was asked for: with the step of then, or suppressed."""
    has_gone_on, submit = threading.Event(), ThreadPoolExecutor.submit

    def late(pool: ThreadPoolExecutor, function: Any, *words: Any, **more: Any) -> Any:
        return submit(pool, lambda: has_gone_on.wait(30) and function(*words, **more))

    monkeypatch.setattr(ThreadPoolExecutor, "submit", late)
    record.begin()
    record.step = 5
    with record.suppress() if is_suppressed else nullcontext():
        future = dcp.async_save(state(), checkpoint_id="out")
    record.step = 9
    has_gone_on.set()
    future.result()
    assert sorted((file["name"], file["step"]) for file in record.files) == (
        [] if is_suppressed else [(name, 5) for name in BOTH]
    )
    dcp.save(state(), checkpoint_id="again")
    assert {file["step"] for file in record.files if file["name"].startswith("again/")} == {9}


def test_loaded(record: Recording) -> None:
    """Every file of the checkpoint is an input, once; values arrive as they were."""
    with record.suppress():
        dcp.save(state(), checkpoint_id="out")
    target = {"weight": torch.zeros(6)}
    dcp.load(target, checkpoint_id="out")
    assert target["weight"].tolist() == [0, 1, 2, 3, 4, 5]
    dcp.load(target, storage_reader=FileSystemReader("out"))
    assert names(record, "input") == BOTH
    assert names(record) == []
    with pytest.raises(CheckpointException):
        dcp.load(target, checkpoint_id="none")


def save_and_load(rank: int, ranks: int, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", LOOPTAP_STRICT="1")
    dist.init_process_group("gloo", rank=rank, world_size=ranks, init_method=f"file://{folder}/meeting")
    from torch.distributed.device_mesh import init_device_mesh

    name = "torch.distributed.tensor" if Version(torch.__version__) >= Version("2.5") else "torch.distributed._tensor"
    tensor = importlib.import_module(name)

    mesh = init_device_mesh("cpu", (ranks,))
    tensors = {"weight": tensor.distribute_tensor(torch.arange(8.0), mesh, [tensor.Shard(0)])}
    with recorded(TorchIntegration, ShardedFilesIntegration) as record:
        dcp.save(tensors, checkpoint_id=f"{folder}/out")
        written = names(record)
        record.new_run()
        record._files.begin_with([])
        dcp.load(tensors, checkpoint_id=f"{folder}/out")
        read = names(record, "input")
    Path(folder, f"{rank}.txt").write_text("\n".join([",".join(written), ",".join(read)]))
    dist.destroy_process_group()


def test_each_rank_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config) -> None:
    """Of two processes each has its own shards, and the first has what binds them; together they look into each file once."""
    monkeypatch.syspath_prepend(str(pytestconfig.rootpath))  # a spawned process imports this module
    mp.spawn(save_and_load, (2, str(tmp_path)), nprocs=2)
    written, read = zip(*((tmp_path / f"{rank}.txt").read_text().split("\n") for rank in range(2)), strict=True)
    assert written == ("out/.metadata,out/__0_0.distcp", "out/__1_0.distcp")
    assert read == written
