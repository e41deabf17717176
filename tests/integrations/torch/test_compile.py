"""torch.compile with every integration installed: the same graphs, breaks, recompilations and numbers as without us."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

import looptap

pytestmark = pytest.mark.filterwarnings("ignore")
#: Since 2.7 the compiler tells apart what is to be left alone with all that it calls. Before, it passes over our functions as it
#: passes over any that it cannot compile, which it may count as a break less or more.
HAS_STRATEGIES = hasattr(torch._C._dynamo.eval_frame, "set_code_exec_strategy")


class Seen(NamedTuple):
    """What a training under torch.compile did."""

    graphs: int
    breaks: dict[str, int]
    recompiles: int
    losses: list[float]
    weights: list[bytes]


def trained(case: Callable[[], tuple[nn.Module, Iterator[torch.Tensor]]], between: Callable[[], None]) -> Seen:
    """Run a case from scratch; ``between`` is called when everything is compiled lazily, before the first step."""
    torch._dynamo.reset()
    counters.clear()
    torch.manual_seed(0)
    model, losses = case()
    between()
    values = [loss.item() for loss in losses]
    weights = [p.detach().view(torch.uint8).numpy().tobytes() for p in model.parameters()]
    return Seen(
        counters["stats"]["unique_graphs"],
        dict(counters["graph_break"]),
        sum(counters["recompiles"].values()),
        values,
        weights,
    )


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))

    def forward(self, x: torch.Tensor) -> Any:
        return self.layers(x)


def network() -> Network:
    return Network()


def data() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(16, 4), torch.randn(16, 1)


STEPS = 4
Case = tuple[nn.Module, Iterator[torch.Tensor]]


def model_compiled(backend: str = "eager", in_place: bool = False) -> Case:
    model = network()
    x, y = data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    compiled: Any = model
    if in_place:
        model.compile(backend=backend, fullgraph=True)
    else:
        compiled = torch.compile(model, backend=backend, fullgraph=True)

    def train() -> Iterator[torch.Tensor]:
        for _ in range(STEPS):
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                output = compiled(x)
            loss = nn.functional.mse_loss(output.float(), y)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            yield loss

    return model, train()


def loss_compiled(backend: str = "eager") -> Case:
    model = network()
    x, y = data()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)

    @torch.compile(backend=backend, fullgraph=True)
    def criterion(output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        total: torch.Tensor = nn.functional.mse_loss(output, y) + nn.functional.smooth_l1_loss(output, y)
        return total

    def train() -> Iterator[torch.Tensor]:
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            yield loss

    return model, train()


def model_and_loss_compiled(backend: str = "eager") -> Case:
    model = network()
    x, y = data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    @torch.compile(backend=backend, fullgraph=True)
    def objective(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss: torch.Tensor = nn.functional.mse_loss(model(x).float(), y)
        return loss

    def train() -> Iterator[torch.Tensor]:
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss = objective(x, y)
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                objective(x, y)
            yield loss

    return model, train()


def whole_step_compiled(backend: str = "eager") -> Case:
    model = network()
    x, y = data()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)

    @torch.compile(backend=backend)
    def step(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    def train() -> Iterator[torch.Tensor]:
        for _ in range(STEPS):
            yield step(x, y)

    return model, train()


def optimizer_compiled(backend: str = "eager") -> Case:
    model = network()
    x, y = data()
    optimizer = torch.optim.Adam(model.parameters(), lr=torch.tensor(0.1))
    step = torch.compile(optimizer.step, backend=backend)

    def train() -> Iterator[torch.Tensor]:
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            step()
            yield loss

    return model, train()


def optimizer_in_a_function_compiled(backend: str = "eager") -> Case:
    model = network()
    x, y = data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    @torch.compile(backend=backend, fullgraph=False)
    def update() -> None:
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    def train() -> Iterator[torch.Tensor]:
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            update()
            yield loss

    return model, train()


def backward_compiled(backend: str = "eager") -> Case:
    """Compiled autograd: the backward pass is a graph too."""
    model = network()
    x, y = data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    @torch.compile(backend=backend)
    def objective(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        return loss

    def train() -> Iterator[torch.Tensor]:
        for _ in range(STEPS):
            optimizer.zero_grad()
            with torch._dynamo.config.patch(compiled_autograd=True):
                loss = objective(x, y)
            optimizer.step()
            yield loss

    return model, train()


CASES: dict[str, Callable[[], Case]] = {
    "model": model_compiled,
    "model in place": lambda: model_compiled(in_place=True),
    "model aot_eager": lambda: model_compiled("aot_eager"),
    "loss": loss_compiled,
    "model and loss": model_and_loss_compiled,
    "model and loss aot_eager": lambda: model_and_loss_compiled("aot_eager"),
    "model and loss inductor": lambda: model_and_loss_compiled("inductor"),
    "whole step": whole_step_compiled,
    "whole step aot_eager": lambda: whole_step_compiled("aot_eager"),
    "optimizer": optimizer_compiled,
    "optimizer aot_eager": lambda: optimizer_compiled("aot_eager"),
    "optimizer inductor": lambda: optimizer_compiled("inductor"),
    "optimizer in a function": optimizer_in_a_function_compiled,
    "backward": backward_compiled,
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("order", ["before", "after"])
def test_nothing_is_compiled_differently(name: str, order: str) -> None:
    """No graph, break or recompilation more, the same bits, and every step with its loss; hooks before or after the compilation."""
    if name == "backward" and not hasattr(torch._dynamo.config, "compiled_autograd"):
        pytest.skip("torch._dynamo.config.compiled_autograd came with a later PyTorch")
    case = CASES[name]
    bare = trained(case, lambda: None)
    try:
        if order == "before":
            looptap.autolog(quiet=True)
        watched = trained(case, lambda: looptap.autolog(quiet=True) if order == "after" else None)
    finally:
        looptap.stop()
    if not HAS_STRATEGIES:
        watched, bare = watched._replace(breaks={}), bare._replace(breaks={})
    assert watched == bare
    found = looptap.get_run("latest").history("loss")
    assert found["value"].tolist() == bare.losses
    assert found["step"].tolist() == list(range(STEPS))


@pytest.mark.parametrize("is_scheduled", [False, True])
def test_rates_and_metrics_of_compiled_steps(is_scheduled: bool) -> None:
    """A compiled step has its number and its rate, though it is written when the next one begins; the program's own metrics, files
    and the epoch lie beside the right one."""
    from torch.utils.data import DataLoader, TensorDataset

    torch._dynamo.reset()
    looptap.autolog(quiet=True)
    try:
        torch.manual_seed(0)
        model = network()
        optimizer = torch.optim.Adam(model.parameters(), lr=torch.tensor(0.1))
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5) if is_scheduled else None
        loader = DataLoader(TensorDataset(*data()), batch_size=8)
        step = torch.compile(optimizer.step, backend="eager")
        truth: list[float] = []
        rates: list[float] = []
        for _ in range(2):
            for x, y in loader:
                optimizer.zero_grad()
                loss = nn.functional.mse_loss(model(x), y)
                loss.backward()
                rates.append(float(optimizer.param_groups[0]["lr"]))
                step()
                looptap.log_metric("own", len(truth))
                if scheduler is not None:
                    scheduler.step()
                truth.append(loss.item())
    finally:
        looptap.stop()
    run = looptap.get_run("latest")
    assert run.history("loss")["value"].tolist() == truth
    assert run.history("own")["step"].tolist() == [0, 1, 2, 3]
    assert run.history("epoch")["step"].tolist() == [0, 2]
    if HAS_STRATEGIES:  # else the step itself is not compiled
        assert not [key for key in run.metrics if key.startswith("time.")], "nobody knows when a compiled step was over"
    found = dict(zip(run.history("lr")["step"].tolist(), run.history("lr")["value"].tolist(), strict=True))
    expected = {1: rates[1], 2: rates[2], 3: rates[3]} if is_scheduled else {0: rates[0]}
    if is_scheduled and not HAS_STRATEGIES:
        expected[0] = rates[0]  # the step itself is not compiled there, and has its first rate in time
    assert found == expected


def test_compiled_step_with_a_scaler() -> None:
    """GradScaler calls the compiled step: it was none that it skipped."""
    torch._dynamo.reset()
    looptap.autolog(quiet=True)
    try:
        torch.manual_seed(0)
        model = network()
        x, y = data()
        optimizer: Any = torch.optim.Adam(model.parameters(), lr=torch.tensor(0.1))
        optimizer.step = torch.compile(optimizer.step, backend="eager")
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        truth: list[float] = []
        for _ in range(4):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            (scaler.scale(loss) / 2).backward()
            scaler.step(optimizer)
            scaler.update()
            truth.append(loss.item() / 2)
    finally:
        looptap.stop()
    run = looptap.get_run("latest")
    assert run.history("loss")["value"].tolist() == truth
    assert "amp_skipped" not in run.metrics
