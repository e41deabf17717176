"""Training loops of every shape: what is recorded is what the program itself would have written down, to the last bit."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from packaging.version import Version
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from integrations.recording import Recording, recorded
from looptap_integrations.torch import TorchIntegration


@pytest.fixture
def record() -> Iterator[Recording]:
    torch.manual_seed(0)
    with recorded(TorchIntegration) as recording:
        yield recording


def numbered(values: list[float]) -> list[tuple[int, float]]:
    return list(enumerate(values))


def regression(count: int = 32) -> tuple[nn.Linear, torch.Tensor, torch.Tensor]:
    return nn.Linear(3, 1), torch.randn(count, 3), torch.randn(count, 1)


#: Fused optimizers run on the CPU from 2.4 on.
HAS_FUSED = Version(torch.__version__) >= Version("2.4")
OPTIMIZERS: list[Any] = [
    lambda p: torch.optim.SGD(p, lr=0.1),
    lambda p: torch.optim.Adam(p, lr=0.01),
    lambda p: torch.optim.AdamW(p, lr=0.01, fused=HAS_FUSED),
    lambda p: torch.optim.RMSprop(p),
    lambda p: torch.optim.Adagrad(p),
]


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_plain_loop(record: Recording, make: Any) -> None:
    """Every step has its loss, by its name, from 0."""
    model, x, y = regression()
    optimizer = make(model.parameters())
    truth = []
    for _ in range(6):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        truth.append(loss.item())
    assert record.series("loss") == numbered(truth)
    assert record.step == 5
    assert record.names() == {"loss", "lr", "step_time"}
    assert [step for step, _ in record.series("step_time")] == [1, 2, 3, 4, 5]


def test_nan_and_infinity_are_values(record: Recording) -> None:
    """A loss that is NaN or infinite is recorded as it is."""
    weight = torch.ones(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.0)
    for factor in (float("nan"), float("inf"), float("-inf"), 1.0):
        loss = weight.sum() * 0.0 + factor
        loss.backward()
        optimizer.step()
    assert [repr(value) for value in record.values("loss")] == ["nan", "inf", "-inf", "1.0"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_every_float_type_is_read_exactly(record: Recording, dtype: torch.dtype) -> None:
    """The number is the tensor's own, widened to float64."""
    weight = torch.full((1,), 0.1, dtype=dtype, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    loss = (weight * weight).sum()
    loss.backward()
    optimizer.step()
    assert record.values("loss") == [loss.item()]


@pytest.mark.parametrize("divisor", [1, 4])
def test_gradient_accumulation(record: Recording, divisor: int) -> None:
    """The step is the optimizer's: its loss is the sum of what was backwarded for it, and the effective batch says so."""
    model, x, y = regression(64)
    loader = DataLoader(TensorDataset(x, y), batch_size=8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    truth, total = [], 0.0
    for _ in range(2):
        for index, (inputs, targets) in enumerate(loader):
            loss = nn.functional.mse_loss(model(inputs), targets) / divisor
            loss.backward()
            total += loss.item()
            if index % 4 == 3:
                optimizer.step()
                optimizer.zero_grad()
                truth.append(total)
                total = 0.0
    assert record.series("loss") == numbered(truth)
    assert record.params_by_key()["batch_size_effective"] == 32
    assert record.series("epoch") == [(0, 0.0), (2, 1.0)]


def test_division_in_the_call(record: Recording) -> None:
    """``(loss / n).backward()`` is recorded under the variable's name, with the value that was backwarded."""
    model, x, y = regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    n = 2
    truth = []
    for _ in range(3):
        total = 0.0
        for _ in range(n):
            error = nn.functional.mse_loss(model(x), y)
            (error / n).backward()
            total += (error / n).item()
        optimizer.step()
        truth.append(total)
    assert record.series("error") == numbered(truth)


def test_gan(record: Recording) -> None:
    """Two optimizers, three losses: one number per round, and what belongs to one optimizer has its name as context."""
    netD, netG = nn.Linear(2, 1), nn.Linear(2, 2)
    optimizerD = torch.optim.Adam(netD.parameters(), lr=0.01)
    optimizerG = torch.optim.Adam(netG.parameters(), lr=0.02)
    truth: dict[str, list[float]] = {"errD_real": [], "errD_fake": [], "errG": []}
    for _ in range(4):
        optimizerD.zero_grad()
        errD_real = netD(torch.randn(8, 2)).square().mean()
        errD_real.backward()
        drawn = netG(torch.randn(8, 2))
        errD_fake = netD(drawn.detach()).square().mean()
        errD_fake.backward()
        optimizerD.step()
        optimizerG.zero_grad()
        errG = (netD(drawn) - 1).square().mean()
        errG.backward()
        optimizerG.step()
        for name, value in (("errD_real", errD_real), ("errD_fake", errD_fake), ("errG", errG)):
            truth[name].append(value.item())
    for name, values in truth.items():
        assert record.series(name) == numbered(values)
    assert record.series("lr", optimizer="optimizerD") == [(0, 0.01)]
    assert record.series("lr", optimizer="optimizerG") == [(0, 0.02)]
    params = record.params_by_key()
    assert params["optimizerD.lr"] == 0.01
    assert params["optimizerG.lr"] == 0.02
    assert params["netD.parameters"] == 3
    assert params["netG.parameters"] == 6


def test_two_optimizers_with_one_helper(record: Recording) -> None:
    """Where a helper function makes every loss the same name, the second optimizer's is a series of its own."""
    one, two = nn.Linear(2, 1), nn.Linear(2, 1)
    first = torch.optim.SGD(one.parameters(), lr=0.1)
    second = torch.optim.SGD(two.parameters(), lr=0.1)
    truth: list[list[float]] = [[], []]

    def update(loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for _ in range(3):
        for index, (model, optimizer) in enumerate(((one, first), (two, second))):
            loss = model(torch.randn(4, 2)).square().mean()
            update(loss, optimizer)
            truth[index].append(loss.item())
    assert record.series("loss") == numbered(truth[0])
    contexts = {tuple(where.items()) for key, _, _, where in record.points if key == "loss" and where}
    assert len(contexts) == 1
    assert record.series("loss", **dict(contexts.pop())) == numbered(truth[1])


def test_folds_of_a_cross_validation(record: Recording) -> None:
    """Each fold has a new model and optimizer; steps go on."""
    truth = []
    for _ in range(3):
        model, x, y = regression()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            loss = nn.functional.mse_loss(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            truth.append(loss.item())
    assert record.series("loss") == numbered(truth)


def test_lbfgs(record: Recording) -> None:
    """The first evaluation is the loss of the step; how many there were is a series."""
    model, x, y = regression()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4)
    counts, first = [], []
    for _ in range(4):
        losses = []

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            losses.append(loss.item())  # noqa: B023 - called within this turn of the loop
            return loss

        optimizer.step(closure)
        counts.append(float(len(losses)))
        first.append(losses[0])
    assert record.series("loss") == numbered(first)
    assert record.series("closure_evaluations") == numbered(counts)
    assert max(counts) > 1


def test_adam_then_lbfgs(record: Recording) -> None:
    """Two phases: the steps of the second follow those of the first."""
    model, x, y = regression()
    adam = torch.optim.Adam(model.parameters(), lr=0.01)
    lbfgs = torch.optim.LBFGS(model.parameters(), max_iter=3)
    truth: dict[str, list[float]] = {"first": [], "second": []}
    for _ in range(6):
        adam.zero_grad()
        first = nn.functional.mse_loss(model(x), y)
        first.backward()
        adam.step()
        truth["first"].append(first.item())

    def closure() -> torch.Tensor:
        lbfgs.zero_grad()
        second = nn.functional.mse_loss(model(x), y)
        second.backward()
        evaluated.append(second.item())
        return second

    evaluated: list[float] = []
    for _ in range(3):
        evaluated = []
        lbfgs.step(closure)
        truth["second"].append(evaluated[0])
    assert record.series("first") == numbered(truth["first"])
    assert record.series("second") == [(6 + step, value) for step, value in enumerate(truth["second"])]
    assert record.step == 5 + len(truth["second"])


def test_phases_in_every_epoch(record: Recording) -> None:
    """Two loops in turn, in each epoch: every step has a number of its own."""
    model, x, y = regression()
    optimizers = [torch.optim.SGD([parameter], lr=0.1) for parameter in model.parameters()]
    truth = []
    for _ in range(2):
        for _ in range(3):
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            optimizers[0].step()
            truth.append(loss.item())
        for _ in range(2):
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            optimizers[1].step()
            truth.append(loss.item())
    found = sorted((at, value) for key, at, value, _ in record.points if key == "loss")
    assert found == numbered(truth)


def test_closure_with_accumulation_that_is_called_once(record: Recording) -> None:
    """All that the first evaluation backwards counts; an optimizer that evaluates once leaves no series about it."""
    model, x, y = regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    truth = []
    for _ in range(3):
        total = 0.0

        def closure() -> float:
            nonlocal total
            optimizer.zero_grad()
            for part in range(2):
                loss = nn.functional.mse_loss(model(x[part::2]), y[part::2])
                loss.backward()
                total += loss.item()
            return total

        optimizer.step(closure)
        truth.append(total)
    assert record.series("loss") == numbered(truth)
    assert "closure_evaluations" not in record.names()


def test_closure_that_raises(record: Recording) -> None:
    """The program's exception comes out as it is, and the next step is right."""
    weight = torch.ones(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    error = ZeroDivisionError("mine")

    def closure() -> float:
        raise error

    with pytest.raises(ZeroDivisionError) as caught:
        optimizer.step(closure)
    assert caught.value is error
    loss = weight.sum()
    loss.backward()
    optimizer.step()
    assert record.series("loss") == [(0, 1.0)]
    assert record.names() == {"loss", "lr"}


def test_manual_update(record: Recording) -> None:
    """Without any optimizer each backward pass is a step."""
    weight = torch.ones(3, requires_grad=True)
    truth = []
    for _ in range(5):
        loss = (weight**2).sum()
        loss.backward()
        assert weight.grad is not None
        with torch.no_grad():
            weight -= 0.1 * weight.grad
        weight.grad = None
        truth.append(loss.item())
    assert record.series("loss") == numbered(truth)


def test_single_backward_without_optimizer() -> None:
    """One backward pass and nothing else: written when the run ends."""
    with recorded(TorchIntegration) as record:
        weight = torch.ones(3, requires_grad=True)
        loss = weight.sum()
        loss.backward()
        assert record.points == []
    assert record.series("loss") == [(0, 3.0)]


def test_optimizer_made_before_us() -> None:
    """autolog() after the optimizer was made: accumulation is still not mistaken for hand-written updates."""
    model, x, y = regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with recorded(TorchIntegration) as record:
        truth = []
        for _ in range(2):
            total = 0.0
            for _ in range(3):
                loss = nn.functional.mse_loss(model(x), y)
                loss.backward()
                total += loss.item()
            optimizer.step()
            truth.append(total)
        assert record.series("loss") == numbered(truth)


@pytest.mark.parametrize("kind", [torch.amp.GradScaler, importlib.import_module("torch.cpu.amp").GradScaler])
@pytest.mark.parametrize("fused", [False, True] if HAS_FUSED else [False])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_grad_scaler(record: Recording, kind: Any, fused: bool) -> None:
    """The loss is the one before scaling; the scale in use is written when it changes, and skipped steps are marked."""
    model, x, y = regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=fused)
    device = ("cpu",) if kind is torch.amp.GradScaler else ()
    scaler = kind(*device, init_scale=1024.0, growth_interval=2)
    truth, skipped = [], []
    scales: list[tuple[int, float]] = []
    for step in range(6):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        scaler.scale(loss).backward()
        if step == 3:
            assert model.weight.grad is not None
            model.weight.grad.fill_(float("inf"))
        scale = scaler.get_scale()
        scaler.step(optimizer)
        scaler.update()
        truth.append(loss.item())
        if not scales or scales[-1][1] != scale:
            scales.append((step, scale))
        if scaler.get_scale() < scale:
            skipped.append((step, 1.0))
    assert record.series("loss") == numbered(truth)
    assert record.series("amp_scale") == scales
    assert record.series("amp_skipped") == skipped == [(3, 1.0)]


def test_scaled_loss_that_is_changed_before_backward(record: Recording) -> None:
    """``scaler.scale(loss / n)`` and ``scaler.scale(loss) / n`` both give the value without the scale."""
    model, x, y = regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    loss = nn.functional.mse_loss(model(x), y)
    scaler.scale(loss / 4).backward()
    scaler.step(optimizer)
    scaler.update()
    first = (loss / 4).item()
    loss = nn.functional.mse_loss(model(x), y)
    (scaler.scale(loss) / 4).backward()
    scaler.step(optimizer)
    scaler.update()
    assert record.series("loss") == [(0, first), (1, (loss / 4).item())]


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_disabled_cuda_scaler(record: Recording) -> None:
    """torch.cuda.amp.GradScaler without CUDA does nothing, and so do we."""
    model, x, y = regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.cuda.amp.GradScaler(enabled=False)
    truth = []
    for _ in range(3):
        loss = nn.functional.mse_loss(model(x), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        truth.append(loss.item())
    assert record.series("loss") == numbered(truth)
    assert "amp_scale" not in record.names()


def test_learning_rates(record: Recording) -> None:
    """The rate that a step used, written when it changes; by group where there are several."""
    model, x, y = regression()
    optimizer = torch.optim.SGD(
        [{"params": [model.weight], "lr": 0.1, "name": "weights"}, {"params": [model.bias], "lr": 0.2}]
    )
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
    for _ in range(4):
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
        scheduler.step()
    assert record.series("lr", group="weights") == [(0, 0.1), (2, 0.05)]
    assert record.series("lr", group="1") == [(0, 0.2), (2, 0.1)]
    assert record.params_by_key()["optimizer.group1.lr"] == 0.2


def test_learning_rate_in_a_tensor(record: Recording) -> None:
    """A rate that lives in a tensor is read when the tensor changes."""
    weight = torch.ones(1, requires_grad=True)
    rate = torch.tensor(0.5)
    optimizer = torch.optim.Adam([weight], lr=rate, capturable=False, foreach=False)
    for step in range(4):
        weight.sum().backward()
        optimizer.step()
        if step == 1:
            rate.fill_(0.25)
    assert record.series("lr") == [(0, 0.5), (2, 0.25)]


def test_gradient_norm_of_the_programs_own_clipping(record: Recording) -> None:
    """What clip_grad_norm_ returned belongs to the step that follows; steps without clipping have none."""
    model, x, y = regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    truth = []
    for step in range(4):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        if step != 2:
            norm = nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            truth.append((step, norm.item()))
        optimizer.step()
    assert record.series("grad_norm") == truth
    assert record.params_by_key()["grad_clip.max_norm"] == 0.5


def test_clipping_in_two_parts(record: Recording) -> None:
    """Two clippings for one step are two series."""
    model, x, y = regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    nn.functional.mse_loss(model(x), y).backward()
    first = nn.utils.clip_grad_norm_([model.weight], 0.5).item()
    second = nn.utils.clip_grad_norm_([model.bias], 0.5).item()
    optimizer.step()
    assert record.series("grad_norm") == [(0, first)]
    assert record.series("grad_norm", call="1") == [(0, second)]


def test_several_losses_in_one_call(record: Recording) -> None:
    """``torch.autograd.backward([a, b])`` gives both, each by its name."""
    weight = torch.ones(2, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    for _ in range(2):
        near = weight.sum()
        far = (weight * 3).sum()
        torch.autograd.backward([near, far])
        optimizer.step()
        optimizer.zero_grad()
    assert record.series("near")[0] == (0, 2.0)
    assert record.series("far")[0] == (0, 6.0)
    assert len(record.values("near")) == 2


def test_gradient_of_a_vector_is_no_loss(record: Recording) -> None:
    """A backward pass from several numbers has no value; from one number with a gradient it has."""
    weight = torch.ones(2, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    vector = weight * 2
    vector.backward(torch.ones(2))
    optimizer.step()
    assert record.names() == {"lr"}
    single = weight.sum()
    single.backward(torch.tensor(0.5))
    optimizer.step()
    assert record.series("single") == [(1, single.item())]


def test_backward_that_raises_is_no_loss(record: Recording) -> None:
    """PyTorch's own error reaches the program, and the loss is not counted."""
    weight = torch.ones(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    loss = weight.square().sum()
    loss.backward()
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()
    optimizer.step()
    assert record.series("loss") == [(0, 1.0)]


def test_backward_that_raises_in_the_middle_of_training(record: Recording) -> None:
    """An accumulation of which one part fails (out of memory, say) and is left out: the loss of the step is that of the rest."""
    model, x, y = regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    truth = []
    for step in range(6):
        optimizer.zero_grad()
        total = None
        for part in range(3):
            output = model(x)
            if step > 1 and part == step % 3:

                def fail(_: torch.Tensor) -> torch.Tensor:
                    raise RuntimeError("out of memory")

                output.register_hook(fail)
            loss = nn.functional.mse_loss(output, y) / (part + 1)
            try:
                loss.backward()
            except RuntimeError:
                continue
            total = loss.item() if total is None else total + loss.item()
        optimizer.step()
        truth.append(total)
    assert record.series("loss") == numbered(truth)  # type: ignore[arg-type]


def test_optimizers_that_step_inside_of_backward(record: Recording) -> None:
    """One optimizer per parameter, stepped as soon as its gradient is there: the loss belongs to that round."""
    model, x, y = regression()
    of: dict[torch.Tensor, torch.optim.SGD] = {
        parameter: torch.optim.SGD([parameter], lr=0.1) for parameter in model.parameters()
    }

    def step(parameter: torch.Tensor) -> None:
        of[parameter].step()
        of[parameter].zero_grad()

    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(step)
    truth = []
    for _ in range(5):
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        truth.append(loss.item())
    losses = [(at, value) for key, at, value, _ in record.points if key == "loss"]
    assert losses == numbered(truth)


def test_same_instruction_in_two_functions(record: Recording) -> None:
    """Two functions whose backward passes stand at the same place of their code are two places, each with its own name."""
    source = """def train(model, x, y, optimizer):
    {0} = mse(model(x), y)
    {0}.backward()
    optimizer.step()
    return {0}.item()
"""
    functions = []
    for name in ("first", "second"):
        scope: dict[str, Any] = {"mse": nn.functional.mse_loss}
        exec(source.format(name), scope)
        functions.append(scope["train"])
    model, x, y = regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    truth: dict[str, list[tuple[int, float]]] = {"first": [], "second": []}
    for step in range(8):
        index = step % 2 if step < 6 else 0
        value = functions[index](model, x, y, optimizer)
        truth["second" if index else "first"].append((step, value))
    assert record.series("first") == truth["first"]
    assert record.series("second") == truth["second"]


def test_reentrant_checkpointing_adds_no_loss(record: Recording) -> None:
    """Checkpointing runs backward passes inside of the program's; they are not losses."""
    model, x, y = regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    truth = []
    for _ in range(3):
        x.requires_grad_(True)
        hidden = torch.utils.checkpoint.checkpoint(model, x, use_reentrant=True)
        loss = nn.functional.mse_loss(hidden, y)
        loss.backward()
        optimizer.step()
        truth.append(loss.item())
    assert record.series("loss") == numbered(truth)
    assert record.names() == {"loss", "lr", "step_time"}


def test_suppressed_training_leaves_nothing(record: Recording) -> None:
    """What runs under suppress() is neither recorded nor counted."""
    model, x, y = regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with record.suppress():
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
    loss = nn.functional.mse_loss(model(x), y)
    loss.backward()
    optimizer.step()
    assert record.series("loss") == [(0, loss.item())]


def test_second_run_starts_anew(record: Recording) -> None:
    """A run that begins later in the process counts from 0 and has its own params."""
    model, x, y = regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for run in range(2):
        if run:
            record.points.clear()
            record.written.clear()
            record.new_run()
        for _ in range(2):
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
        assert [step for step, _ in record.series("loss")] == [0, 1]
        assert record.series("lr") == [(0, 0.1)]
        assert record.params_by_key()["optimizer.lr"] == 0.1
        assert record.params_by_key()["model.parameters"] == 4


def test_own_metrics_belong_to_the_step_that_is_under_way(record: Recording) -> None:
    """Without a step: from the batch on it is the coming step, after it that step, and what follows a validation is of the last."""
    model, x, y = regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train = DataLoader(TensorDataset(x, y), batch_size=8)
    validation = DataLoader(TensorDataset(x, y), batch_size=16)
    for epoch in range(2):
        for features, targets in train:
            record.log_metrics({"batch": 1.0})
            loss = nn.functional.mse_loss(model(features), targets)
            loss.backward()
            record.log_metrics({"before": 1.0})
            optimizer.step()
            record.log_metrics({"after": 1.0})
        for _ in validation:
            record.log_metrics({"validation": 1.0})
        record.log_metrics({"epoch_end": float(epoch)})
    steps = list(range(8))
    for key in ("batch", "before", "after"):
        assert [step for step, _ in record.series(key)] == steps
    assert [step for step, _ in record.series("validation")] == [3, 3, 7, 7]
    assert [step for step, _ in record.series("epoch_end")] == [3, 7]


def test_validation_loader_does_not_count_as_epoch(record: Recording) -> None:
    """The epoch is that of the loader which fed the step; passes over another one do not matter."""
    model, x, y = regression(16)
    loader = DataLoader(TensorDataset(x, y), batch_size=8)
    validation = DataLoader(TensorDataset(x, y), batch_size=4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        for inputs, targets in loader:
            nn.functional.mse_loss(model(inputs), targets).backward()
            optimizer.step()
        for inputs, _ in validation:
            model(inputs)
    assert record.series("epoch") == [(0, 0.0), (2, 1.0), (4, 2.0)]
    assert len(record.series("step_time")) == 6
    assert record.params_by_key()["data.batch_size"] == 8


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_a_loader(record: Recording, method: str) -> None:
    """With persistent workers the same iterator serves every epoch; the workers themselves record nothing."""
    model, x, y = regression(16)
    loader = DataLoader(
        TensorDataset(x, y), batch_size=8, num_workers=1, persistent_workers=True, multiprocessing_context=method
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        for inputs, targets in loader:
            loss = nn.functional.mse_loss(model(inputs), targets)
            loss.backward()
            optimizer.step()
    assert record.series("epoch") == [(0, 0.0), (2, 1.0)]
    assert len(record.series("loss")) == 4


class Twice(torch.optim.SGD):
    """An optimizer of the program's own, over one of PyTorch's."""

    fails = False

    def step(self, closure: Any = None) -> Any:
        if self.fails:
            raise RuntimeError("not now")
        super().step(closure)
        return super().step()


def test_step_that_calls_the_one_it_overrides(record: Recording) -> None:
    """PyTorch calls the hooks around both; it is one step all the same, also after one that raised."""
    model, x, y = regression()
    torch.optim.SGD(model.parameters(), lr=0.1)  # so that SGD.step is hooked, as well as Twice.step
    optimizer = Twice(model.parameters(), lr=0.1)
    truth = []
    for turn in range(6):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.fails = turn == 2
        if turn == 2:
            with pytest.raises(RuntimeError, match="not now"):
                optimizer.step()
            truth.append(loss.item())
            continue
        optimizer.step()
        if turn == 3:
            truth[-1] += loss.item()
        else:
            truth.append(loss.item())
    assert record.series("loss") == numbered(truth)
    assert record.step == 4


def test_closure_of_an_overridden_step(record: Recording) -> None:
    """The closure is counted once, whichever of the two steps calls it."""

    class Own(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            return super().step(closure)

    model, x, y = regression()
    optimizer, calls = Own(model.parameters(), lr=0.1), 0

    def closure() -> torch.Tensor:
        nonlocal calls
        calls += 1
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        return loss

    truth = [optimizer.step(closure).item() for _ in range(3)]
    assert (calls, record.series("loss")) == (3, numbered(truth))
