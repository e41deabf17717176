"""Loss functions: what a call of each counts for, and that they stay what they are to those who compile, trace or extend them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

from integrations.recording import Recording, recorded
from integrations.torch.classifying import Program, data
from looptap_integrations.torch import TorchIntegration

pytestmark = pytest.mark.usefixtures("nothing_compiled")


def of_time(samples: int) -> Any:
    """Of ctc_loss, which has the time in front of the batch."""
    outputs = torch.randn(5, samples, 3).log_softmax(2)
    lengths = torch.full((samples,), 5), torch.full((samples,), 2)
    return functional.ctc_loss(outputs, torch.randint(1, 3, (samples, 2)), *lengths)


def of_classes(samples: int) -> Any:
    """Of a single sample without a batch, and of a batch."""
    outputs, target = data(samples).tensors
    if samples == 1:
        outputs, target = outputs[0], target[0]
    return functional.cross_entropy(outputs, target)


def of_numbers(samples: int) -> Any:
    """Of a single number, and of a batch of them."""
    numbers = torch.randn(samples) if samples > 1 else torch.randn(())
    return functional.mse_loss(numbers, torch.ones_like(numbers))


@pytest.mark.parametrize("kind", [of_time, of_classes, of_numbers])
def test_the_size_of_a_batch(record: Recording, kind: Callable[[int], torch.Tensor]) -> None:
    """Each batch counts by its samples, wherever the function has them."""
    program = Program()
    program.step(*data(4).tensors)
    total = 0.0
    with torch.no_grad():
        for samples in (1, 4, 3):
            loss = kind(samples)
            total += loss.item() * samples
    program.step(*data(4).tensors)
    assert record.values("validation/loss") == pytest.approx([total / 8], rel=1e-6)


def test_compiled_losses_stay_one_graph() -> None:
    """No graph, break or recompilation more than without us: a model with its loss, a loss alone, with and without gradients."""
    with recorded(TorchIntegration) as record:
        counts = [compiled_run()]
        assert record.names() == {"loss", "lr", "step_time"}
    counts.append(compiled_run())
    assert counts[0] == counts[1]
    assert counts[0]["graph_break"] == {}
    assert counts[0]["stats"]["unique_graphs"] > 0


def compiled_run() -> dict[str, dict[str, int]]:
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    program = Program()

    def whole(x: torch.Tensor, y: torch.Tensor) -> Any:
        return functional.cross_entropy(program.model(x), y)

    functions: list[Any] = [
        torch.compile(whole, fullgraph=True, backend="aot_eager"),
        torch.compile(program.criterion, fullgraph=True, backend="aot_eager"),
    ]
    x, y = data(4).tensors
    for _ in range(3):
        firsts: list[Callable[[], torch.Tensor]] = [lambda: x, lambda: program.model(x)]
        for function, first in zip(functions, firsts, strict=True):
            program.optimizer.zero_grad()
            loss: torch.Tensor = function(first(), y)
            loss.backward()
            program.optimizer.step()
            with torch.no_grad():
                function(first(), y)
    return {name: dict(counters[name]) for name in ("stats", "graph_break", "unimplemented")}


def test_a_program_that_has_compiled_is_not_recompiled() -> None:
    """The functions stay as they are then, and a note says so."""
    import torch._dynamo
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    criterion = torch.compile(nn.CrossEntropyLoss(), fullgraph=True, backend="eager")
    outputs, target = torch.randn(4, 2), torch.tensor([0, 1, 0, 1])
    criterion(outputs, target)
    before = dict(counters["stats"])
    with recorded(TorchIntegration) as record:
        criterion(outputs, target)
        assert record.notes == []
        for _ in DataLoader(data(4)):
            criterion(outputs, target)
        assert dict(counters["stats"]) == before
        assert record.notes == ["no validation losses: call autolog() before anything is compiled by torch.compile"]


def test_a_training_that_stops_between_two_steps_is_no_validation() -> None:
    """Where the program has compiled before us, only a pass that is none of the training is missed."""
    import torch._dynamo

    torch._dynamo.reset()
    torch.compile(nn.CrossEntropyLoss(), backend="eager")(torch.randn(4, 2), torch.tensor([0, 1, 0, 1]))
    program = Program()
    with recorded(TorchIntegration) as record:
        for index, (x, y) in enumerate(DataLoader(program.train_data, batch_size=4)):
            program.criterion(program.model(x), y).backward()
            if index % 2:
                program.optimizer.step()
        assert record.notes == []


def test_scripted_loss(record: Recording) -> None:
    """torch.jit.script compiles the function behind ours."""
    x, y = torch.randn(4, 2), torch.tensor([0, 1, 0, 1])
    scripted = torch.jit.script(nn.CrossEntropyLoss(label_smoothing=0.1))
    assert torch.equal(scripted(x, y), nn.CrossEntropyLoss(label_smoothing=0.1)(x, y))


def test_traced_programs_have_nothing_of_us(record: Recording) -> None:
    """make_fx and torch.jit.trace write down what happens; reading a number would be in it."""
    from torch.fx.experimental.proxy_tensor import make_fx

    x, y = torch.randn(4, 2), torch.tensor([0, 1, 0, 1])
    with torch.no_grad():
        made = make_fx(lambda x, y: functional.cross_entropy(x, y))(x, y)
        traced = torch.jit.trace(lambda x, y: functional.cross_entropy(x, y), (x, y))
    assert ".item(" not in made.code
    assert "_local_scalar" not in made.code
    assert "aten::item" not in str(traced.graph)
    assert record.points == []


def test_tensor_subclasses_see_the_call_once(record: Recording) -> None:
    """The function hands them round, and is called again inside; the loss counts once beside that of another batch, and values do
    not change."""

    class Marked(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return super().__torch_function__(function, types, args, kwargs or {})  # type: ignore[no-untyped-call]

    program = Program()
    program.step(*data(4).tensors)
    losses = []
    with torch.no_grad():
        for count, kind in ((6, Marked), (2, torch.Tensor)):
            x, y = data(count).tensors
            loss = functional.cross_entropy(program.model(x).as_subclass(kind), y)
            assert type(loss) is kind
            losses.append(loss.item())
    program.step(*data(4).tensors)
    assert record.values("validation/loss") == [(losses[0] * 6 + losses[1] * 2) / 8]
    assert record.names() == {"loss", "lr", "step_time", "validation/loss"}


def test_everything_is_put_back() -> None:
    original = functional.cross_entropy
    with recorded(TorchIntegration):
        pass
    assert functional.cross_entropy is original
