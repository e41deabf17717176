"""``stop()`` puts back every function of every integration as the identical object, whenever it comes; and autolog() may come again."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

import looptap
from looptap import registry
from looptap.patching import Patcher
from looptap.session import SESSION

#: With what the program may have imported besides; what is slow to import is tested by its own integration's tests.
FRAMEWORKS = (
    "argparse",
    "random",
    "numpy",
    "click",
    "typer",
    "fire",
    "absl.flags",
    "hydra",
    "tqdm",
    "safetensors.torch",
)


@pytest.fixture(autouse=True)
def stopped() -> Iterator[None]:
    for name in FRAMEWORKS:
        importlib.import_module(name)
    yield
    looptap.stop()


@pytest.fixture
def replaced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, str, Any]]:
    """(owner, name, what was there in its ``__dict__``) of each replacement that any integration makes."""
    found: list[tuple[Any, str, Any]] = []
    missing = object()
    replace = Patcher._replace

    def noted(self: Patcher, owner: Any, name: str, *rest: Any) -> None:
        target = importlib.import_module(owner) if isinstance(owner, str) else owner
        found.append((target, name, vars(target).get(name, missing)))
        replace(self, owner, name, *rest)

    monkeypatch.setattr(Patcher, "_replace", noted)
    return found


def is_as_before(replaced: list[tuple[Any, str, Any]]) -> bool:
    """The first that was replaced under a name is what was there before any of us came."""
    first = {(id(owner), name): (owner, name, before) for owner, name, before in reversed(replaced)}
    return all(
        vars(owner)[name] is before if name in vars(owner) else type(before) is object
        for owner, name, before in first.values()
    )


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> float:
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(torch.ones(4, 3)), torch.zeros(4, 1))
    loss.backward()
    optimizer.step()
    return loss.item()


def made() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def test_everything_comes_back(replaced: list[tuple[Any, str, Any]]) -> None:
    """In the middle of an epoch; with every integration whose framework is here."""
    looptap.autolog(quiet=True)
    model, optimizer = made()
    step(model, optimizer)
    active = {name for name, entry in SESSION.registry.entries.items() if entry.state == "active"}
    assert active >= {"torch", *FRAMEWORKS[:2]}
    assert active >= {name for name, _ in registry.discover() if name in FRAMEWORKS}
    assert len(replaced) > 10
    assert not is_as_before(replaced)
    looptap.stop()
    assert is_as_before(replaced)
    assert not _global_optimizer_pre_hooks
    assert not _global_optimizer_post_hooks
    assert not [finder for finder in sys.meta_path if type(finder).__module__.startswith("looptap")]
    step(model, optimizer)


def test_two_autologs_are_one(replaced: list[tuple[Any, str, Any]]) -> None:
    """The second call wraps nothing again; one loss is one point; one stop() removes all."""
    looptap.autolog(quiet=True)
    count = len(replaced)
    looptap.autolog(quiet=True)
    assert len(replaced) == count
    model, optimizer = made()
    truth = [step(model, optimizer) for _ in range(3)]
    looptap.stop()
    assert is_as_before(replaced)
    assert looptap.get_run("latest").history("loss")["value"].tolist() == truth


def test_stop_inside_of_a_backward_pass(replaced: list[tuple[Any, str, Any]]) -> None:
    """From a hook of a gradient: the pass ends as ever, and what is recorded ends before it."""
    looptap.autolog(quiet=True)
    model, optimizer = made()
    truth = [step(model, optimizer) for _ in range(2)]
    handle = model.weight.register_hook(lambda _: looptap.stop())  # type: ignore[operator,union-attr]
    step(model, optimizer)
    handle.remove()
    assert is_as_before(replaced)
    step(model, optimizer)
    assert looptap.get_run("latest").history("loss")["value"].tolist() == truth


def test_stop_inside_of_a_step(replaced: list[tuple[Any, str, Any]]) -> None:
    """From a hook of the optimizer, while PyTorch goes through its hooks."""
    looptap.autolog(quiet=True)
    model, optimizer = made()
    truth = [step(model, optimizer) for _ in range(2)]
    handle = optimizer.register_step_pre_hook(lambda *_: looptap.stop())
    step(model, optimizer)
    handle.remove()
    assert is_as_before(replaced)
    assert looptap.get_run("latest").history("loss")["value"].tolist() == truth


def test_autolog_again_afterwards(replaced: list[tuple[Any, str, Any]]) -> None:
    """The same model goes on being trained: a run of its own, from step 0, with all of its losses."""
    looptap.autolog(quiet=True)
    model, optimizer = made()
    first = [step(model, optimizer) for _ in range(2)]
    looptap.stop()
    step(model, optimizer)
    looptap.autolog(quiet=True)
    second = [step(model, optimizer) for _ in range(3)]
    looptap.stop()
    assert is_as_before(replaced)
    runs = [looptap.get_run(run) for run in looptap.search_runs()["id"]]
    found = {tuple(run.history("loss")["value"].tolist()) for run in runs}
    assert found == {tuple(first), tuple(second)}
    assert all(run.history("loss")["step"].tolist()[0] == 0 for run in runs)
    assert all(run.params["optimizer.lr"] == 0.1 for run in runs)


def test_who_wrapped_us_keeps_working(replaced: list[tuple[Any, str, Any]]) -> None:
    """Another tool that wrapped our wrapper stays in place after stop(), and calls through."""
    original = torch.autograd.backward
    looptap.autolog(quiet=True)
    ours = torch.autograd.backward
    called = []

    def theirs(*args: Any, **kwargs: Any) -> Any:
        called.append(1)
        return ours(*args, **kwargs)

    torch.autograd.backward = theirs
    try:
        looptap.stop()
        assert torch.autograd.backward is theirs
        model, optimizer = made()
        step(model, optimizer)
        assert called == [1]
    finally:
        torch.autograd.backward = original
