"""Models whose parameters or gradients several processes share."""

from __future__ import annotations

import json

import pytest
import torch
from packaging.version import Version

import looptap
from integrations.torch.ranks import assert_told_once, torchrun
from programs import Programs

SHARDED = """
import json, os
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset
import looptap

looptap.autolog()
dist.init_process_group("gloo")
rank = dist.get_rank()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 5)
        self.module = nn.Linear(5, 1)  # called like that of a wrapper

    def forward(self, x):
        return self.module(self.first(x))


def sharded(model):
    fully_shard(model.first)
    return fully_shard(model)


KINDS = {
    "flat": lambda model: FullyShardedDataParallel(model, device_id=torch.device("cpu")),
    "original": lambda model: FullyShardedDataParallel(model, use_orig_params=True, device_id=torch.device("cpu")),
    "fsdp2": sharded,
    "ddp": DistributedDataParallel,
}
dataset = TensorDataset(torch.arange(48.0).reshape(12, 4) / 48)
truth = {}


def train(name, wrap):
    torch.manual_seed(0)
    net = Net()
    model = wrap(net)
    loader = DataLoader(dataset, batch_size=3, sampler=DistributedSampler(dataset, shuffle=False))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for epoch in range(3):
        total = 0.0
        optimizer.zero_grad()
        for index, (x,) in enumerate(loader):
            is_last = index == len(loader) - 1
            quiet = model.no_sync() if name == "ddp" and not is_last else torch.enable_grad()
            with quiet:
                loss = model(x).pow(2).mean() / 2
                loss.backward()
            total += loss.item()
            if is_last:
                if name != "flat" and name != "original":
                    torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
                optimizer.step()
                truth[name].append(total)


for name, wrap in KINDS.items():
    truth[name] = []
    with looptap.run(name):
        train(name, wrap)
with open(f"truth{rank}.json", "w") as file:
    json.dump(truth, file)
dist.destroy_process_group()
"""


@pytest.mark.skipif(
    Version(torch.__version__) < Version("2.6"), reason="fully_shard is in torch.distributed.fsdp from 2.6 on"
)
def test_sharded_models(programs: Programs) -> None:
    """FSDP of both versions and DDP with ``no_sync``, one run after the other: the user's own class, the sizes of the whole model,
    the batch of all ranks together, accumulated losses of each; nothing that would have to wait for others."""
    done = torchrun(programs, SHARDED, "--nproc-per-node", "2")
    assert done.returncode == 0, done.stderr
    assert [run["name"] for run in programs.runs()] == ["ddp", "fsdp2", "original", "flat"]
    for name in ("flat", "original", "fsdp2", "ddp"):
        record = programs.record(name)
        assert_told_once(record)
        params = {key: param["value"] for key, param in record["params"].items()}
        assert params["model.class"] == "__main__.Net", name
        sizes = [params[f"model.parameters{kind}"] for kind in ("", "_trainable", "_float32")]
        assert sizes == [31, 31, 31], name
        assert (params["batch_size_effective"], params["data.shuffle"]) == (3 * 2 * 2, False), name
        assert [note["message"] for note in record["notes"]] == [], name
        run = looptap.get_run(name, store=programs.store)
        for rank in range(2):
            truth = json.loads((programs.folder / f"truth{rank}.json").read_text())[name]
            table = run.history("loss", {"rank": str(rank)} if rank else {})
            assert table["value"].tolist() == pytest.approx(truth, abs=0, rel=1e-15), (name, rank)
        # Of DTensors the norm is one of all ranks together: reading it would wait for them.
        assert ("grad_norm" in run.metrics) == (name == "ddp"), name
