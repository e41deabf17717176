"""The program does not notice: same weights, same objects, same pickles, no graph breaks, whatever the order of imports."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import textwrap
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from integrations.recording import recorded
from looptap_integrations.torch import TorchIntegration


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1))


def plain() -> list[nn.Module]:
    model = network()
    loader = DataLoader(TensorDataset(torch.randn(40, 4), torch.randn(40, 1)), batch_size=8, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    for _ in range(2):
        for x, y in loader:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
        scheduler.step()
    return [model]


def accumulation() -> list[nn.Module]:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for index in range(12):
        (nn.functional.mse_loss(model(torch.randn(8, 4)), torch.randn(8, 1)) / 3).backward()
        if index % 3 == 2:
            optimizer.step()
            optimizer.zero_grad()
    return [model]


def gan() -> list[nn.Module]:
    netD, netG = network(), nn.Linear(2, 4)
    optimizerD = torch.optim.Adam(netD.parameters())
    optimizerG = torch.optim.Adam(netG.parameters())
    for _ in range(5):
        fake = netG(torch.randn(8, 2))
        optimizerD.zero_grad()
        (netD(torch.randn(8, 4)).mean() - netD(fake.detach()).mean()).backward()
        optimizerD.step()
        optimizerG.zero_grad()
        netD(fake).mean().backward()
        optimizerG.step()
    return [netD, netG]


def lbfgs() -> list[nn.Module]:
    model = nn.Linear(4, 1)
    x, y = torch.randn(20, 4), torch.randn(20, 1)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=4)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        return loss

    for _ in range(4):
        optimizer.step(closure)
    return [model]


def mixed_precision() -> list[nn.Module]:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", growth_interval=2)
    for step in range(6):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = nn.functional.mse_loss(model(torch.randn(8, 4)), torch.randn(8, 1))
        scaler.scale(loss * (float("inf") if step == 3 else 1.0)).backward()
        scaler.step(optimizer)
        scaler.update()
    return [model]


def manual() -> list[nn.Module]:
    model = network()
    for _ in range(6):
        nn.functional.mse_loss(model(torch.randn(8, 4)), torch.randn(8, 1)).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                assert parameter.grad is not None
                parameter.sub_(0.1 * parameter.grad)
                parameter.grad = None
    return [model]


def weights(train: Callable[[], list[nn.Module]]) -> list[bytes]:
    torch.manual_seed(11)
    return [
        tensor.detach().view(torch.uint8).numpy().tobytes()
        for model in train()
        for tensor in model.state_dict().values()
    ]


@pytest.mark.parametrize("train", [plain, accumulation, gan, lbfgs, mixed_precision, manual])
def test_weights_are_bit_identical(train: Callable[[], list[nn.Module]]) -> None:
    """Seeded training ends with the same bits with and without us, and leaves the same random state."""
    bare = weights(train)
    state = torch.get_rng_state()
    with recorded(TorchIntegration) as record:
        watched = weights(train)
    assert record.points
    assert watched == bare
    assert torch.equal(torch.get_rng_state(), state)
    assert weights(train) == bare


PATCHED: list[tuple[Any, str]] = [
    (torch.autograd, "backward"),
    (torch, "save"),
    (torch.optim.Optimizer, "__init__"),
    (DataLoader, "__iter__"),
    (torch.utils.data.dataloader._BaseDataLoaderIter, "__next__"),
    (torch.amp.GradScaler, "scale"),
    (torch.amp.GradScaler, "step"),
    (torch.amp.autocast_mode.autocast, "__enter__"),
]
if hasattr(torch.nn.utils.clip_grad, "_clip_grads_with_norm_"):
    PATCHED += [(torch.nn.utils.clip_grad, "_clip_grads_with_norm_"), (torch.nn.utils, "clip_grads_with_norm_")]
else:
    PATCHED += [(torch.nn.utils.clip_grad, "clip_grad_norm_"), (torch.nn.utils, "clip_grad_norm_")]


def test_undo_restores_the_identical_objects() -> None:
    """After the run every function and every list of hooks is the one that it was."""
    from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

    before = [vars(owner)[name] for owner, name in PATCHED]
    with recorded(TorchIntegration):
        plain()
        assert all(vars(owner)[name] is not old for (owner, name), old in zip(PATCHED, before, strict=True))
    assert all(vars(owner)[name] is old for (owner, name), old in zip(PATCHED, before, strict=True))
    assert not _global_optimizer_pre_hooks
    assert not _global_optimizer_post_hooks


def test_what_is_patched_still_pickles() -> None:
    """Patched functions, and loaders, optimizers and scalers under observation, go through pickle."""
    with recorded(TorchIntegration):
        assert pickle.loads(pickle.dumps(torch.save)) is torch.save
        assert pickle.loads(pickle.dumps(torch.autograd.backward)) is torch.autograd.backward
        model = nn.Linear(2, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        again = pickle.loads(pickle.dumps(optimizer))
        assert again.param_groups[0]["lr"] == 0.1
        assert set(vars(optimizer)) == set(vars(torch.optim.SGD(model.parameters(), lr=0.1)))
        loader = DataLoader(TensorDataset(torch.ones(2, 2)), batch_size=1)
        assert len(list(pickle.loads(pickle.dumps(loader)))) == 2


def test_nothing_of_the_program_is_kept_alive() -> None:
    """Losses, models, optimizers and loaders die when the program drops them."""

    def train() -> list[weakref.ref[Any]]:
        model = nn.Linear(4, 1)
        loader = DataLoader(TensorDataset(torch.randn(8, 4)), batch_size=4)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        alive = []
        for (x,) in loader:
            loss = model(x).square().mean()
            loss.backward()
            optimizer.step()
            alive.append(weakref.ref(loss))
            del loss
            assert alive[-1]() is None
        return [*alive, weakref.ref(model), weakref.ref(optimizer), weakref.ref(loader)]

    with recorded(TorchIntegration):
        assert [reference() for reference in train()] == [None] * 5


def program(folder: Path, code: str, *words: str) -> str:
    path = folder / "program.py"
    path.write_text(textwrap.dedent(code))
    done = subprocess.run(
        [sys.executable, str(path), *words],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "LOOPTAP_QUIET": "1"},
        timeout=170,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


BODY = """
def train():
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    if ORDER == "after":
        import looptap; looptap.autolog()
    for step in range(3):
        optimizer.zero_grad()
        loss = model(torch.ones(2, 3)).square().mean()
        loss.backward()
        norm = clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        print(repr(loss.item()), repr(norm.item()))
train()
"""


@pytest.mark.parametrize("order", ["before", "between", "after"])
def test_every_order_of_import_and_autolog(tmp_path: Path, order: str) -> None:
    """autolog() before torch, after it, or after the optimizer was made; clip_grad_norm_ imported by name before us."""
    import looptap

    start = f"ORDER = {order!r}\n"
    if order == "before":
        start += "import looptap; looptap.autolog()\n"
    start += "import torch\nfrom torch.nn.utils import clip_grad_norm_\n"
    if order == "between":
        start += "import looptap; looptap.autolog()\n"
    printed = [line.split() for line in program(tmp_path, start + BODY).splitlines()]
    run = looptap.get_run("latest")
    for column, name in enumerate(("loss", "grad_norm")):
        assert [repr(value) for value in run.history(name)["value"].tolist()] == [line[column] for line in printed]


def test_compiled_model_trains_without_graph_breaks(tmp_path: Path) -> None:
    """torch.compile(fullgraph=True) works as before: no break, no additional compilation, under autocast too."""
    code = """
    import looptap, sys
    looptap.autolog()
    import torch
    from torch._dynamo.utils import counters

    def train():
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        @torch.compile(fullgraph=True, backend="aot_eager")
        def forward(x):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return model(x)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(4):
            optimizer.zero_grad()
            loss = forward(torch.ones(2, 4)).float().square().mean()
            loss.backward()
            optimizer.step()
            print(repr(loss.item()))
    train()
    assert not counters["graph_break"], counters["graph_break"]
    assert counters["stats"]["unique_graphs"] == 1, counters["stats"]
    """
    import looptap

    printed = program(tmp_path, code).split()
    assert [repr(value) for value in looptap.get_run("latest").history("loss")["value"].tolist()] == printed
