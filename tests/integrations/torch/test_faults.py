"""What programs do to PyTorch and to themselves: overridden methods, odd losses, exceptions, hooks taken away. The program gets what it
would get without us, and what is recorded is right or missing."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from integrations.recording import Recording, recorded
from looptap_integrations.torch import TorchIntegration


@pytest.fixture
def record() -> Iterator[Recording]:
    torch.manual_seed(0)
    with recorded(TorchIntegration) as recording:
        yield recording


def numbered(values: list[float]) -> list[tuple[int, float]]:
    return list(enumerate(values))


def regression(count: int = 16) -> tuple[nn.Linear, torch.Tensor, torch.Tensor]:
    return nn.Linear(3, 1), torch.randn(count, 3), torch.randn(count, 1)


def trains(record: Recording, steps: int = 3) -> None:
    """From here on a plain loop is recorded right."""
    model, x, y = regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    truth = []
    for _ in range(steps):
        optimizer.zero_grad()
        after = nn.functional.mse_loss(model(x), y)
        after.backward()
        optimizer.step()
        truth.append(after.item())
    first = record.step - steps + 1
    assert record.series("after") == [(first + index, value) for index, value in enumerate(truth)]


# --- overridden methods -------------------------------------------------------------------------------------------------


class LoudTensor(torch.Tensor):
    """A subclass with a backward of its own."""

    calls = 0

    def backward(self, *args: Any, **kwargs: Any) -> None:
        type(self).calls += 1
        super().backward(*args, **kwargs)


def test_tensor_subclass_that_overrides_backward(record: Recording) -> None:
    """Its method runs once, and the loss is recorded."""
    model, x, y = regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    truth = []
    LoudTensor.calls = 0
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y).as_subclass(LoudTensor)
        loss.backward()
        optimizer.step()
        truth.append(float(loss))
    assert LoudTensor.calls == 3
    assert [value for _, _, value, _ in record.points if value in truth] == truth


class OwnBackward(nn.Module):
    """As LightningModule: ``backward`` is a method of the module that runs the loss's."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layer(x)
        return out

    def backward(self, loss: torch.Tensor, *args: Any) -> None:
        loss.backward(*args)


def test_module_with_a_backward_of_its_own(record: Recording) -> None:
    """The name is the one at the place that calls PyTorch."""
    model, (_, x, y) = OwnBackward(), regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    truth = []
    for _ in range(3):
        optimizer.zero_grad()
        value = nn.functional.mse_loss(model(x), y)
        model.backward(value)
        optimizer.step()
        truth.append(value.item())
    assert record.series("loss") == numbered(truth)


class WithSuper(torch.optim.SGD):
    def step(self, closure: Any = None, *, scale: float = 1.0) -> Any:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad.mul_(scale)
        return super().step(closure)


class WithoutSuper(torch.optim.Optimizer):
    def __init__(self, params: Any) -> None:
        super().__init__(params, {})

    @torch.no_grad()
    def step(self, closure: Any = None) -> str:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.sub_(parameter.grad, alpha=0.1)
        return "stepped"


class OwnSignature(WithoutSuper):
    def step(self, factor: float, *, names: tuple[str, ...] = ()) -> str:  # type: ignore[override]
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.sub_(parameter.grad, alpha=factor)
        return f"stepped {factor} {names}"


@pytest.mark.parametrize(
    ("kind", "step", "result"),
    [
        (lambda p: WithSuper(p, lr=0.1), lambda o: o.step(scale=0.5), None),
        (WithoutSuper, lambda o: o.step(), "stepped"),
        (OwnSignature, lambda o: o.step(0.2, names=("a",)), "stepped 0.2 ('a',)"),
    ],
)
def test_optimizer_that_overrides_step(
    record: Recording, kind: Callable[[Any], Any], step: Callable[[Any], Any], result: Any
) -> None:
    """One step is one step, with or without ``super().step()``, whatever its arguments and result."""
    model, x, y = regression()
    optimizer = kind(model.parameters())
    truth = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        assert step(optimizer) == result
        truth.append(loss.item())
    assert record.series("loss") == numbered(truth)


class NoInit(torch.optim.Optimizer):
    """Calls nothing of its base class: it has groups, and no hooks of its own."""

    def __init__(self, params: Any) -> None:
        self.param_groups = [{"params": list(params), "lr": 0.1}]

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        with torch.no_grad():
            for parameter in self.param_groups[0]["params"]:
                parameter.sub_(parameter.grad, alpha=0.1)


def test_optimizer_that_does_not_initialize_its_base_class(record: Recording) -> None:
    """PyTorch calls no hook for it. The program trains on; each backward pass is a step, as in every loop without an optimizer."""
    model, x, y = regression()
    optimizer = NoInit(model.parameters())
    truth = []
    for _ in range(4):
        model.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        truth.append(loss.item())
    assert record.series("loss") == numbered(truth)


def test_odd_learning_rates(record: Recording) -> None:
    """None, missing, a tensor, a text: the loss is recorded all the same."""
    for rate in (None, "auto", torch.tensor(0.5), 1, True):
        model, x, y = regression()
        optimizer = WithoutSuper(model.parameters())
        if rate is not None:
            optimizer.param_groups[0]["lr"] = rate
        before = record.step
        for _ in range(2):
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        assert record.step == before + 2
        assert record.series("loss")[-1] == (record.step, loss.item())
    assert 0.5 in record.values("lr")


def test_groups_that_are_replaced_during_training(record: Recording) -> None:
    """``param_groups`` is emptied, filled again and grows; steps and losses go on."""
    model, x, y = regression()
    optimizer = torch.optim.SGD([model.weight], lr=0.1)
    truth = []

    def step() -> None:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        truth.append(loss.item())

    step()
    optimizer.add_param_group({"params": [model.bias], "lr": 0.5})
    step()
    groups = optimizer.param_groups
    optimizer.param_groups = []
    step()
    optimizer.param_groups = [dict(groups[0])]
    step()
    assert record.series("loss") == numbered(truth)
    assert record.series("lr", group="1") == [(1, 0.5)]


# --- odd losses and gradients --------------------------------------------------------------------------------------------


def test_double_backward_and_retained_graphs(record: Recording) -> None:
    """A gradient penalty by ``create_graph``: what is backwarded for a step is its loss; the inner gradient is none."""
    model, x, y = regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    truth = []
    for _ in range(3):
        optimizer.zero_grad()
        inputs = x.clone().requires_grad_(True)
        output = model(inputs)
        (gradient,) = torch.autograd.grad(output.sum(), inputs, create_graph=True)
        loss = nn.functional.mse_loss(output, y) + gradient.norm()
        loss.backward(retain_graph=True)
        loss.backward()
        optimizer.step()
        truth.append(loss.item() + loss.item())
    assert record.series("loss") == numbered(truth)


def test_second_derivative_by_backward(record: Recording) -> None:
    """``backward(create_graph=True)``, then a loss of the gradients."""
    weight = torch.full((2,), 3.0, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    first = (weight**3).sum()
    first.backward(create_graph=True)
    assert weight.grad is not None
    second = weight.grad.square().sum()
    second.backward()
    optimizer.step()
    assert record.series("first") == [(0, first.item())]
    assert record.series("second") == [(0, second.item())]
    optimizer.zero_grad()


def test_complex_loss(record: Recording) -> None:
    """PyTorch refuses to backward a complex number by itself, in its own words; with a gradient it has no value for us."""
    weight = torch.ones(1, dtype=torch.complex64, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    with pytest.raises(RuntimeError, match="real scalar"):
        weight.sum().backward()
    weight.sum().backward(torch.ones((), dtype=torch.complex64))
    optimizer.step()
    assert record.names() == {"lr"}
    trains(record)


def test_meta_loss(record: Recording) -> None:
    """A loss without data has no value; its step still has its number."""
    weight = torch.ones(2, device="meta", requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    weight.sum().backward()
    optimizer.step()
    assert record.step == 0
    assert record.values("loss") == []
    trains(record)


def test_integers_and_wrong_losses(record: Recording) -> None:
    """What PyTorch refuses it refuses in its own words."""
    with pytest.raises(RuntimeError, match="does not require grad"):
        torch.tensor(3).backward()
    with pytest.raises(TypeError):
        torch.autograd.backward(3)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="scalar outputs"):
        (torch.ones(2, requires_grad=True) * 2).backward()
    trains(record)


def test_loss_of_a_function_of_the_programs_own(record: Recording) -> None:
    """autograd.Function with its own backward pass."""

    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            ctx.save_for_backward(x)
            return (x**3).sum()

        @staticmethod
        def backward(ctx: Any, grad: torch.Tensor) -> Any:
            (x,) = ctx.saved_tensors
            return grad * 3 * x**2

    weight = torch.full((2,), 0.5, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    truth = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = Cube.apply(weight)
        loss.backward()
        optimizer.step()
        truth.append(loss.item())
    assert record.series("loss") == numbered(truth)


def test_functional_loop(record: Recording) -> None:
    """torch.func: no call says that its result is a loss, so nothing is recorded, and nothing is disturbed."""
    model, x, y = regression()
    parameters = {name: value.detach() for name, value in model.named_parameters()}

    def objective(parameters: dict[str, torch.Tensor]) -> torch.Tensor:
        return nn.functional.mse_loss(torch.func.functional_call(model, parameters, (x,)), y)

    before = objective(parameters)
    for _ in range(5):
        gradients = torch.func.grad(objective)(parameters)
        parameters = {name: value - 0.1 * gradients[name] for name, value in parameters.items()}
    assert objective(parameters) < before
    assert record.values("loss") == []
    trains(record)


# --- exceptions ---------------------------------------------------------------------------------------------------------


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
    class Optimizer(WithoutSuper):
        def step(self, closure: Any = None) -> str:  # type: ignore[override]
            raise Broken("step")

    weight = torch.ones(1, requires_grad=True)
    weight.sum().backward()
    Optimizer([weight]).step()


def broken_closure() -> None:
    torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=0.1).step(_raise)  # type: ignore[arg-type]


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


# --- hooks and switches -------------------------------------------------------------------------------------------------


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
