"""Exceptions inside of training, and hooks that the program takes away: it sees what it would see without us."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from integrations.recording import Recording, recorded
from integrations.torch.loops import regression, trains
from looptap_integrations.torch import TorchIntegration


class Broken(RuntimeError):
    pass


def broken_forward() -> None:
    class Module(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise Broken("forward")

    Module()(torch.ones(1))


def broken_backward() -> None:
    weight = torch.ones(1, requires_grad=True)
    weight.register_hook(_raise)
    weight.sum().backward()


def broken_step() -> None:
    class Optimizer(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            raise Broken("step")

    weight = torch.ones(1, requires_grad=True)
    weight.sum().backward()
    Optimizer([weight], lr=0.1).step()


def broken_closure() -> None:
    torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=0.1).step(_raise)


def _raise(*_: Any) -> Any:
    raise Broken("mine")


def frames(error: BaseException) -> list[str]:
    return [
        f"{frame.filename}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
        if "looptap" not in frame.filename and f"{__file__}:" not in f"{frame.filename}:{frame.lineno}"
    ]


@pytest.mark.parametrize("fail", [broken_forward, broken_backward, broken_step, broken_closure])
def test_exception_is_the_programs_own(fail: Callable[[], None]) -> None:
    """The same exception with the same traceback, apart from our wrappers; the next step is right."""
    with pytest.raises(Broken) as bare:
        fail()
    with recorded(TorchIntegration) as record:
        with pytest.raises(Broken) as watched:
            fail()
        assert str(watched.value) == str(bare.value)
        assert frames(watched.value) == frames(bare.value)
        assert watched.value.__context__ is bare.value.__context__ is None
        trains(record)


def test_interrupt_in_the_middle_of_a_step(record: Recording) -> None:
    """Ctrl-C passes through us, and a program that goes on is recorded right."""
    model, x, y = regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def interrupt(_: torch.Tensor) -> None:
        raise KeyboardInterrupt

    handle = model.weight.register_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        nn.functional.mse_loss(model(x), y).backward()
    handle.remove()
    optimizer.zero_grad()
    trains(record)


def test_hooks_that_the_program_takes_away() -> None:
    """A program that clears PyTorch's global hooks has its way: nothing raises, and undoing raises nothing either."""
    with recorded(TorchIntegration) as record:
        trains(record)
        _global_optimizer_pre_hooks.clear()
        _global_optimizer_post_hooks.clear()
        model, x, y = regression()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            nn.functional.mse_loss(model(x), y).backward()
            optimizer.step()
    assert record.step == 2
    with recorded(TorchIntegration) as again:
        trains(again)


def test_hooks_of_the_program_stay(record: Recording) -> None:
    """Hooks on the optimizer are called in their order, and their removal is theirs alone."""
    called = []
    model, x, y = regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    handles = [
        optimizer.register_step_pre_hook(lambda *_: called.append("pre")),
        optimizer.register_step_post_hook(lambda *_: called.append("post")),
    ]
    nn.functional.mse_loss(model(x), y).backward()
    optimizer.step()
    for handle in handles:
        handle.remove()
    nn.functional.mse_loss(model(x), y).backward()
    optimizer.step()
    assert called == ["pre", "post"]
    assert record.step == 1
