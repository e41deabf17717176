"""Models and optimizers that are copied, pickled, sent to other processes or trained in several threads, while PyTorch is watched."""

from __future__ import annotations

import copy
import io
import pickle
import threading
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

import looptap
from integrations.recording import recorded
from looptap_integrations.torch import TorchIntegration
from programs import Programs


def made() -> tuple[nn.Module, torch.optim.Optimizer, Any]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    return model, optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 2)


def steps(model: nn.Module, optimizer: torch.optim.Optimizer, count: int = 3) -> list[float]:
    truth = []
    x = torch.ones(4, 3)
    for _ in range(count):
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        truth.append(loss.item())
    return truth


def test_pickles_are_those_without_us() -> None:
    """A model, an optimizer and the state of a schedule have nothing of ours in them."""

    def pickled() -> list[bytes]:
        model, optimizer, schedule = made()
        steps(model, optimizer)
        schedule.step()
        buffer = io.BytesIO()
        torch.save(model.state_dict(), buffer)
        return [
            pickle.dumps(model),
            pickle.dumps(optimizer),
            pickle.dumps(schedule.state_dict()),
            buffer.getvalue(),
        ]

    bare = pickled()
    with recorded(TorchIntegration):
        watched = pickled()
    # Not the bytes: storages are named by where they lie in memory.
    assert not any(b"looptap" in one for one in watched)
    assert [len(one) for one in watched] == [len(one) for one in bare]


def test_copies_train_on() -> None:
    """A deepcopy and a pickled copy of model and optimizer are trained, each step recorded as a step of its own."""
    with recorded(TorchIntegration) as record:
        model, optimizer, _ = made()
        truth = steps(model, optimizer)
        for again in (copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))):
            other_model, other_optimizer = again((model, optimizer))
            assert other_optimizer.param_groups[0]["params"][0] is next(iter(other_model.parameters()))
            truth += steps(other_model, other_optimizer)
    # The same loop in the same place: whichever optimizer it is, its losses are there, in order.
    assert [value for key, _, value, _ in record.points if key == "loss"] == truth


class Trained(Dataset[Any]):
    """Each item is the loss of a small training that the worker does for it."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> float:
        model, optimizer, _ = made()
        return steps(model, optimizer, 2)[-1]


@pytest.mark.parametrize("workers", [0, 2])
def test_training_inside_of_a_dataset(workers: int) -> None:
    """A worker of a loader trains a model for every item and records nothing; without workers it is training like any other."""
    looptap.autolog(quiet=True)
    try:
        losses = [float(item) for batch in DataLoader(Trained(), batch_size=2, num_workers=workers) for item in batch]
        model, optimizer, _ = made()
        truth = steps(model, optimizer)
    finally:
        looptap.stop()
    assert losses == [truth[1]] * 4
    runs = looptap.search_runs()
    assert len(runs) == 1
    found = looptap.get_run("latest").metrics
    points = sum(series.count for series in found.values() if series.key == "loss")
    assert points == (3 if workers else 4 * 2 + 3)


def test_two_threads() -> None:
    """Two models trained at once: nothing raises in either, the weights are those of training alone, and no loss is lost."""
    results: dict[int, tuple[list[float], bytes]] = {}

    def train(number: int) -> None:
        generator = torch.Generator().manual_seed(number)
        weight = torch.randn(3, generator=generator).requires_grad_(True)
        optimizer = torch.optim.SGD([weight], lr=0.1)
        truth = []
        for _ in range(100):
            optimizer.zero_grad()
            loss = (weight - number).square().sum()
            loss.backward()
            optimizer.step()
            truth.append(loss.item())
        results[number] = truth, weight.detach().numpy().tobytes()

    def both() -> dict[int, tuple[list[float], bytes]]:
        results.clear()
        threads = [threading.Thread(target=train, args=(number,)) for number in (1, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return dict(results)

    bare = both()
    assert set(bare) == {1, 2}
    with recorded(TorchIntegration) as record:
        watched = both()
    assert watched == bare
    assert record.points


CHILDREN = """
import sys
import looptap
import torch
import torch.multiprocessing as multiprocessing

def train(model, optimizer, number, queue=None):
    if optimizer is None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    truth = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = model(torch.ones(2, 3)).square().mean()
        loss.backward()
        optimizer.step()
        truth.append(loss.item())
    if queue is not None:
        queue.put(truth)
    return truth

def main():
    torch.set_num_threads(1)
    looptap.autolog()
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    method = sys.argv[1]
    print(train(model, optimizer, 0))
    context = multiprocessing.get_context(method)
    queue = context.SimpleQueue()
    child = context.Process(target=train, args=(model, optimizer, 1, queue))
    child.start()
    told = queue.get()
    child.join()
    print(told)
    assert child.exitcode == 0, child.exitcode
    print(train(model, optimizer, 2))

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_model_and_optimizer_in_another_process(programs: Programs, method: str) -> None:
    """They travel there and are trained; the parent's run has the parent's losses, before and after."""
    done = programs.python(CHILDREN, method)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    lines = [eval(line) for line in done.stdout.splitlines()]
    assert len(lines) == 3
    run = looptap.get_run("latest")
    told = run.history("loss", {}) if "loss" in run.metrics else run.history("loss")
    found = told["value"].tolist()
    assert [value for value in found if value in lines[0] + lines[2]][:3] == lines[0]
    assert set(lines[0] + lines[2]) <= set(found)
