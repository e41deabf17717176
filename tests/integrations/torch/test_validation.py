"""Validation losses against means that are computed by hand."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, Subset

from integrations.recording import Recording, recorded
from integrations.torch.classifying import Program, data
from integrations.torch.fake_device import FakeDevice, ScalarsOnDevice
from looptap.rounds import Rounds
from looptap.sketches import distribution
from looptap_integrations.torch import TorchIntegration
from looptap_integrations.torch.loss_names import CallSites
from looptap_integrations.torch.losses import Seen
from looptap_integrations.torch.passes import Passes
from looptap_integrations.torch.readings import Owed, Reading, Scalar
from looptap_integrations.torch.scalars import Scalars
from looptap_integrations.torch.validation import Validation

pytestmark = pytest.mark.usefixtures("nothing_compiled")


def until(condition: Callable[[], Any]) -> None:
    """Windows are made beside the training."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + 20
        time.sleep(0.005)


def near(value: float) -> Any:
    return pytest.approx(value, rel=1e-6)


def test_each_pass_is_one_point(record: Recording) -> None:
    """At the last step of the training, weighted by the size of the batches; exactly what the program sums up."""
    program = Program()
    train_loader = DataLoader(program.train_data, batch_size=4)
    val_loader = DataLoader(program.other_data, batch_size=4)
    expected = []
    for _ in range(3):
        for x, y in train_loader:
            program.step(x, y)
        total = 0.0
        with torch.no_grad():
            for x, y in val_loader:
                val_loss = program.criterion(program.model(x), y)
                total += val_loss.item() * len(x)
        expected.append(total / 11)
    assert record.series("validation/loss") == list(zip([4, 9, 14], expected, strict=True))
    assert record.names() == {"loss", "lr", "epoch", "step_time", "validation/loss"}
    assert len(record.values("loss")) == 15


def test_a_pass_leaves_its_predictions_and_labels(record: Recording) -> None:
    """Of each pass with gradients off, in the streams that serving has: what was predicted, how surely, and what was right."""
    program = Program()
    for x, y in DataLoader(program.train_data, batch_size=4):
        program.step(x, y)
    scores, labels = [], []
    with torch.no_grad():
        for x, y in DataLoader(program.other_data, batch_size=4):
            scores.append(program.model(x))
            labels.append(y)
            val_loss = program.criterion(scores[-1], y)  # noqa: F841 - named, as programs do
    program.step(x, y)
    until(lambda: record.windows)
    (window,) = record.windows
    assert (window.split, window.model, window.requests) == ("validation", "", len(scores))
    found = {name: distribution.decode(one) for name, one in window.predictions.items()}
    all_scores = torch.cat(scores)
    assert found["class"].classes == Counter(str(place) for place in all_scores.argmax(1).tolist())
    assert found["confidence"].numbers.mean == near(torch.softmax(all_scores, 1).amax(1).mean().item())
    truth = distribution.decode(window.labels["class"])
    assert truth.classes == Counter(str(place) for place in torch.cat(labels).tolist())


def test_sum_over_the_test_set(record: Recording) -> None:
    """As in PyTorch's MNIST example: reduction='sum', divided by the number of samples."""
    program = Program()

    def test(model: nn.Module, loader: DataLoader[Any]) -> float:
        model.eval()
        test_loss = 0.0
        with torch.no_grad():
            for inputs, target in loader:
                output = functional.log_softmax(model(inputs), dim=1)
                test_loss += functional.nll_loss(output, target, reduction="sum").item()
        return test_loss / 11

    expected = []
    for _ in range(2):
        for x, y in DataLoader(program.train_data, batch_size=10):
            program.step(x, y)
        expected.append(test(program.model, DataLoader(program.other_data, batch_size=4)))
    assert record.series("test/loss") == list(zip([1, 3], expected, strict=True))
    assert "validation/loss" not in record.names()


def test_two_splits(record: Recording) -> None:
    """One function for both: the loaders' own names tell, not the argument's."""
    program = Program()
    val_loader = DataLoader(program.other_data, batch_size=4)
    test_loader = DataLoader(program.train_data, batch_size=3)

    @torch.inference_mode()
    def evaluate(val_loader: Any) -> float:
        losses = []
        for x, y in val_loader:
            losses.append((program.criterion(program.model(x), y).item(), len(y)))
        total: float = sum(loss * count for loss, count in losses)
        return total / sum(count for _, count in losses)

    program.step(*data(4).tensors)
    expected = evaluate(val_loader), evaluate(test_loader)
    program.step(*data(4).tensors)
    assert record.series("validation/loss") == [(0, expected[0])]
    assert record.series("test/loss") == [(0, expected[1])]


class Digits(Dataset[Any]):
    def __init__(self, **words: Any) -> None:
        self.tensors = data(6).tensors
        vars(self).update(words)

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Any:
        return self.tensors[0][index], self.tensors[1][index]


@pytest.mark.parametrize(
    ("words", "key"),
    [
        ({"split": "test"}, "test/loss"),
        ({"split": "val"}, "validation/loss"),
        ({"train": False}, "test/loss"),
        ({"train": True}, "validation/loss"),
        ({}, "validation/loss"),
    ],
)
def test_split_by_the_data(record: Recording, words: dict[str, Any], key: str) -> None:
    """What the dataset says of itself, where the program's words say nothing."""
    program = Program()
    program.step(*data(4).tensors)
    batches = DataLoader(Digits(**words), batch_size=6)
    with torch.no_grad():
        for x, y in batches:
            loss = program.criterion(program.model(x), y)
    assert record.series(key) == [(0, loss.item())]
    assert len(record.names() & {"test/loss", "validation/loss"}) == 1


def test_a_subset_is_not_what_the_whole_is(record: Recording) -> None:
    """Part of the training data that is kept for validation."""
    program = Program()
    program.step(*data(4).tensors)
    held_out = Subset(Digits(train=True, split="train"), [1, 2])
    with torch.no_grad():
        for x, y in DataLoader(held_out, batch_size=6):
            loss = program.criterion(program.model(x), y)
    assert record.series("validation/loss") == [(0, loss.item())]


def test_the_training_data_again(record: Recording) -> None:
    """Without gradients over what was trained on: neither validation nor test."""
    program = Program()
    loader = DataLoader(program.train_data, batch_size=5)
    for x, y in loader:
        program.step(x, y)
    with torch.no_grad():
        for x, y in loader:
            program.criterion(program.model(x), y)
        expected = program.truth(loader)
    assert [(step, near(value)) for step, value in record.series("train/loss")] == [(3, near(expected))]
    assert record.names() == {"loss", "lr", "epoch", "step_time", "train/loss"}


def test_without_a_loader(record: Recording) -> None:
    """What comes between two steps is a pass; the last one is written when the run ends."""
    program = Program()
    x, y = program.other_data.tensors
    expected = []
    with recorded(TorchIntegration) as record:
        for step in range(4):
            program.step(*program.train_data.tensors)
            if step % 2:
                with torch.no_grad():
                    loss = functional.mse_loss(program.model(x)[:, 0], y.float())
                expected.append((step, loss.item()))
        assert record.series("validation/loss") == expected[:1]
    assert record.series("validation/loss") == expected


def test_each_loss_has_its_own_split_without_a_loader(record: Recording) -> None:
    """Two in one block, and one in a block of its own; what says nothing itself is not the training's."""
    program = Program()
    x, y = program.other_data.tensors
    truth: dict[str, list[tuple[int, float]]] = {"train/full": [], "validation/loss": [], "test/loss": []}
    truth["validation/other"] = []
    for step in range(3):
        program.step(*program.train_data.tensors)
        with torch.no_grad():
            train_full = program.criterion(program.model(program.train_data.tensors[0]), program.train_data.tensors[1])
            other = 0.0
            for part in (slice(0, 5), slice(5, 10)):
                other += program.criterion(program.model(x[part]), y[part]).item()
            val_loss = program.criterion(program.model(x[:7]), y[:7])
        with torch.no_grad():
            test_loss = program.criterion(program.model(x[7:]), y[7:])
        for key, value in zip(truth, (train_full.item(), val_loss.item(), test_loss.item(), other / 2), strict=True):
            truth[key].append((step, value))
    program.step(*program.train_data.tensors)
    assert {key: record.series(key) for key in record.names() if "/" in key} == truth


def test_a_look_at_the_training_beside_a_validation(record: Recording) -> None:
    """In the midst of the training's loader: the validation says what it is, whichever of the two comes first."""
    program = Program()
    x, y = program.other_data.tensors
    for inputs, targets in DataLoader(program.train_data, batch_size=10):
        program.step(inputs, targets)
        with torch.no_grad():
            train_loss = program.criterion(program.model(inputs), targets)
            val_loss = program.criterion(program.model(x), y)
    program.step(*program.train_data.tensors)
    assert record.values("train/loss")[-1:] == [train_loss.item()]
    assert record.values("validation/loss")[-1:] == [val_loss.item()]


def test_before_training(record: Recording) -> None:
    """Before the first step a pass has the number 0."""
    program = Program()
    loader = DataLoader(program.other_data, batch_size=11)
    with torch.no_grad():
        for x, y in loader:
            loss = program.criterion(program.model(x), y)
    program.step(*data(4).tensors)
    assert record.series("validation/loss") == [(0, loss.item())]


def test_several_losses(record: Recording) -> None:
    """Each by its variable; two places without a name are told apart by the function."""
    program = Program()
    program.step(*data(4).tensors)
    total_recon = 0.0
    held: list[float] = []
    with torch.no_grad():
        for x, y in DataLoader(program.other_data, batch_size=11):
            outputs = program.model(x)
            total_recon += functional.mse_loss(outputs[:, 0], y.float()).item()
            val_class = functional.cross_entropy(outputs, y)
            held.append(functional.l1_loss(outputs[:, 0], y.float()).item())
            held.append(functional.huber_loss(outputs[:, 0], y.float()).item())
    assert record.values("validation/recon") == [total_recon]
    assert record.values("validation/class") == [val_class.item()]
    assert record.values("validation/loss") == held[:1]
    assert record.values("validation/huber_loss") == held[1:]


# --- looks at the training are no validation --------------------------------------------------------------------------


def detached(program: Program, x: torch.Tensor, y: torch.Tensor) -> None:
    outputs = program.model(x)
    with torch.no_grad():
        functional.l1_loss(outputs[:, 0], y.float())
    functional.l1_loss(outputs[:, 0].detach(), y.float())
    loss = program.criterion(outputs, y)
    program.optimizer.zero_grad()
    loss.backward()
    with torch.no_grad():
        functional.mse_loss(program.model(x)[:, 0], y.float())
    program.optimizer.step()


def before(program: Program, x: torch.Tensor, y: torch.Tensor) -> None:
    with torch.no_grad():
        functional.mse_loss(program.model(x)[:, 0], y.float())
    program.step(x, y)


def after(program: Program, x: torch.Tensor, y: torch.Tensor) -> None:
    program.step(x, y)
    with torch.no_grad():
        functional.mse_loss(program.model(x)[:, 0], y.float())


@pytest.mark.parametrize("turn", [detached, before, after])
def test_a_look_at_the_training_is_no_validation(record: Recording, turn: Callable[..., None]) -> None:
    """Before the backward pass, between it and the step, and after the step."""
    program = Program()
    for _ in range(2):
        for x, y in DataLoader(program.train_data, batch_size=4):
            turn(program, x, y)
    assert record.names() == {"loss", "lr", "epoch", "step_time"}


def test_accumulation_with_looks(record: Recording) -> None:
    """Several micro-batches, each with a loss that is only looked at."""
    program = Program()
    for index, (x, y) in enumerate(DataLoader(program.train_data, batch_size=2)):
        with torch.no_grad():
            functional.mse_loss(program.model(x)[:, 0], y.float())
        (program.criterion(program.model(x), y) / 5).backward()
        if index % 5 == 4:
            program.optimizer.step()
            program.optimizer.zero_grad()
    assert record.names() == {"loss", "lr", "epoch", "step_time"}


@pytest.mark.parametrize("own_loader", [True, False])
def test_validation_in_the_midst_of_an_epoch(record: Recording, own_loader: bool) -> None:
    """By its own loader, broken off, or by a list, while the training's loader goes on."""
    program = Program()
    batches: Any = DataLoader(program.other_data, batch_size=4)
    if not own_loader:
        batches = list(batches)
    expected = []
    for step, (x, y) in enumerate(DataLoader(program.train_data, batch_size=4)):
        program.step(x, y)
        if step % 2:
            total = 0.0
            with torch.no_grad():
                for index, (x, y) in enumerate(batches):
                    total += program.criterion(program.model(x), y).item() * len(y)
                    if index == 1:
                        break
            expected.append((step, total / 8))
    assert record.series("validation/loss") == expected
    assert len(record.values("loss")) == 5


def test_evaluation_at_the_top_of_the_loop(record: Recording) -> None:
    """A function that is called evaluate() is taken at its word, with a batch of the training in hand."""
    program = Program()
    x_val, y_val = program.other_data.tensors
    seen = []

    @torch.no_grad()
    def evaluate() -> float:
        loss: float = program.criterion(program.model(x_val), y_val).item()
        return loss

    for step, (x, y) in enumerate(DataLoader(program.train_data, batch_size=4)):
        if step in (2, 4):
            seen.append((step - 1, evaluate()))
        program.step(x, y)
    assert record.series("validation/loss") == seen


def test_checkpointed_loss_is_training(record: Recording) -> None:
    """Activation checkpointing computes the loss without gradients first."""
    from torch.utils.checkpoint import checkpoint

    program = Program()
    x, y = data(4).tensors
    x.requires_grad_()
    for _ in range(3):
        loss = checkpoint(lambda x: functional.cross_entropy(program.model(x), y), x, use_reentrant=True)
        loss.backward()
        program.optimizer.step()
    assert record.names() == {"loss", "lr", "step_time"}


def test_a_framework_on_top_covers_it(record: Recording) -> None:
    program = Program()
    program.step(*data(4).tensors)
    with record.cover("validation"), torch.no_grad():
        program.criterion(program.model(torch.ones(2, 3)), torch.tensor([0, 1]))
    program.step(*data(4).tensors)
    assert "validation/loss" not in record.names()


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_reductions(record: Recording, reduction: str) -> None:
    """The mean of the pass for 'mean' and 'sum', the old arguments too; nothing for 'none'."""
    program = Program()
    program.step(*data(4).tensors)
    x, y = program.other_data.tensors
    with torch.no_grad():
        outputs = program.model(x)
        loss = functional.cross_entropy(outputs, y, reduction=reduction)
        with pytest.warns(UserWarning, match="deprecated"):
            old = functional.cross_entropy(outputs, y, size_average=reduction != "sum", reduce=reduction != "none")
    program.step(*data(4).tensors)
    assert torch.equal(loss, old)
    expected = [] if reduction == "none" else [loss.item() / (11 if reduction == "sum" else 1)]
    assert record.values("validation/loss") == record.values("validation/old") == expected


def test_values_that_a_device_owes(record: Recording) -> None:
    """Each loss is fetched without a wait, and the pass is written when the last of them is here."""

    def evaluate() -> None:
        for value, samples in ((1.0, 4), (4.0, 2)):
            validation.loss(
                sys._getframe(), Seen("mse_loss", samples, False, False, torch.ones(2), None), torch.tensor(value)
            )

    device = FakeDevice()
    scalars = ScalarsOnDevice(device)
    validation = Validation(record, scalars, Passes(), Rounds(), CallSites())
    record.begin()
    record.step = 4
    evaluate()
    validation.end()
    assert record.points == []
    device.run(1)
    record.step = 5
    evaluate()
    assert record.points == []
    device.run()
    validation.end()
    device.run()
    scalars.drain()
    assert record.series("validation/loss") == [(4, 2.0), (5, 2.0)]


def test_what_cannot_be_looked_at_costs_no_loss(record: Recording) -> None:
    """Predictions of a kind that has no rows: the mean of the pass is there all the same."""
    validation = Validation(record, Scalars(FakeDevice()), Passes(), Rounds(), CallSites())
    validation.references.guard.strict = False
    record.begin()
    record.step = 1
    sparse = torch.eye(100).to_sparse()
    for _ in range(5):
        val_seen = Seen("mse_loss", 2, False, False, sparse, torch.ones(100))
        validation.loss(sys._getframe(), val_seen, torch.tensor(2.0))
    validation.end()
    assert [value for _, _, value, _ in record.points] == [2.0]
    assert validation.references.guard.closed


def test_a_lost_value_costs_the_mean(record: Recording) -> None:
    """The mean of the rest would be another number."""
    scalars = Scalars(FakeDevice())
    validation = Validation(record, scalars, Passes(), Rounds(), CallSites())
    record.begin()
    record.step = 1
    lost = Owed()
    lost.settle(None)
    readings: list[Scalar] = [1.0, Reading((lost,)), 3.0]
    for reading in readings:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(scalars, "read", lambda tensor, reading=reading: reading)
            validation.loss(sys._getframe(), Seen("mse_loss", 2, False, False, torch.ones(2), None), torch.ones(()))
    validation.end()
    assert record.points == []
    assert record.notes == ["validation/loss is left out: a value of it was lost on its way from the device"]
