"""SummaryWriter, PyTorch's and tensorboardX's: what is on record equals what TensorBoard has in its own file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import tensorboardX
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils import tensorboard

from integrations.recording import Recording, recorded
from looptap.patching import is_watched
from looptap_integrations.tensorboard import TensorBoardIntegration
from looptap_integrations.torch import TorchIntegration


@pytest.fixture
def record() -> Iterator[Recording]:
    with recorded(TorchIntegration, TensorBoardIntegration) as recording:
        yield recording


@pytest.fixture(params=["torch", "tensorboardX"])
def writer(request: pytest.FixtureRequest, tmp_path: Path, record: Recording) -> Iterator[Any]:
    kind: Any = tensorboard.SummaryWriter if request.param == "torch" else tensorboardX.SummaryWriter
    with kind(str(tmp_path)) as made:
        yield made


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder)).Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


def test_scalars(record: Recording, writer: Any, tmp_path: Path) -> None:
    """Under their tag and step; tensors, arrays and numbers."""
    for step, value in ((0, 0.5), (10, torch.tensor(0.25)), (20, numpy.float32(0.125)), (5, 1)):
        writer.add_scalar("Loss/train", value, step)
    writer.add_scalar(tag="named", scalar_value=2.0, global_step=3)
    writer.flush()
    assert record.series("Loss/train") == [(0, 0.5), (10, 0.25), (20, 0.125), (5, 1.0)]
    assert record.series("Loss/train") == scalars(tmp_path, "Loss/train")
    assert record.series("named") == [(3, 2.0)]
    assert record.names() == {"Loss/train", "named"}


def test_several_scalars(record: Recording, writer: Any) -> None:
    writer.add_scalars("run", {"a": 1.0, "b": torch.tensor(2.0)}, 7)
    assert record.points == [("run/a", 7, 1.0, {}), ("run/b", 7, 2.0, {})]


def test_hyperparameters(record: Recording, writer: Any) -> None:
    """Settings as params; a metric once, although add_scalar is called for it inside."""
    writer.add_hparams({"lr": 0.1, "net": "small", "bias": True}, {"hparam/accuracy": 0.75})
    assert record.written == [
        ("lr", 0.1, "tensorboard"),
        ("net", "small", "tensorboard"),
        ("bias", True, "tensorboard"),
    ]
    assert record.points == [("hparam/accuracy", 0, 0.75, {})]


def test_histograms(record: Recording, writer: Any) -> None:
    """Five numbers; the tensor's graph and the random numbers stay as they are."""
    values = torch.tensor([[1.0, 2.0], [3.0, 6.0]], requires_grad=True)
    state = torch.get_rng_state()
    writer.add_histogram("weights", values, 4)
    writer.add_histogram("weights", numpy.array([0.0, 2.0]), 5)
    expected = {"min": [1.0, 0.0], "max": [6.0, 2.0], "mean": [3.0, 1.0], "std": [3.5**0.5, 1.0], "count": [4.0, 2.0]}
    for name, (first, second) in expected.items():
        assert record.series(f"weights/{name}") == [(4, pytest.approx(first)), (5, second)]
    assert torch.equal(torch.get_rng_state(), state)
    assert values.grad is None


def test_images_are_noted(record: Recording, writer: Any) -> None:
    for step in range(2):
        writer.add_image("picture", numpy.zeros((3, 4, 4)), step)
    assert set(record.notes) == {"images stay in TensorBoard's own files"}
    assert record.points == []


def test_errors_are_the_programs(record: Recording, writer: Any) -> None:
    with pytest.raises(TypeError, match="should be dictionary"):
        writer.add_hparams([], {})
    with pytest.raises((NotImplementedError, AssertionError, ValueError)):
        writer.add_scalar("many", torch.ones(3), 0)
    assert record.points == []


def test_the_training_s_own_loss_is_one_point(record: Recording, writer: Any) -> None:
    """Logged before and after the step; under another tag it is the user's own series."""
    weights = torch.ones(2, requires_grad=True)
    optimizer = torch.optim.SGD([weights], lr=0.1)
    losses = []
    for step in range(4):
        optimizer.zero_grad()
        loss = (weights**2).sum()
        losses.append(loss.item())
        if step % 2:
            writer.add_scalar("loss", loss, step)
        loss.backward()
        optimizer.step()
        if step % 2 == 0:
            writer.add_scalar("loss", loss.item(), step)
        writer.add_scalar("Loss/train", loss.item(), step)
    assert sorted(record.series("loss")) == list(enumerate(losses))
    assert record.series("Loss/train") == list(enumerate(losses))


def test_each_writer_is_watched_once() -> None:
    """Two packages wake the one integration; the second finds the first's work done, and all of it is undone."""
    originals = tensorboard.SummaryWriter.add_scalar, tensorboardX.SummaryWriter.add_scalar
    with recorded(TensorBoardIntegration, TensorBoardIntegration):
        assert is_watched(tensorboard.SummaryWriter.add_scalar)
        wrapped = [
            getattr(kind.add_scalar, "__wrapped__", None)
            for kind in (tensorboard.SummaryWriter, tensorboardX.SummaryWriter)
        ]
        assert wrapped == list(originals)
    assert (tensorboard.SummaryWriter.add_scalar, tensorboardX.SummaryWriter.add_scalar) == originals
