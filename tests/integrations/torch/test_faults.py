"""What programs do to PyTorch and to themselves: overridden methods, odd losses and gradients. The program gets what it
would get without us, and what is recorded is right or missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from integrations.recording import Recording
from integrations.torch.loops import numbered, regression, trains

# --- overridden methods -------------------------------------------------------------------------------------------------


class LoudTensor(torch.Tensor):
    """A subclass with a backward of its own."""

    calls = 0

    def backward(self, *args: Any, **kwargs: Any) -> None:
        type(self).calls += 1
        super().backward(*args, **kwargs)  # type: ignore[no-untyped-call]


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
    def step(self, closure: Any = None, *, scale: float = 1.0) -> Any:
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
        loss: Any = Cube.apply(weight)  # type: ignore[no-untyped-call]
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
