"""Losses and steps of CUDA graphs. The graph is a stand-in: while it is captured the program runs as it stands, and a replay runs
it again on the same tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn

from integrations.recording import Recording, recorded
from looptap_integrations.torch import TorchIntegration


class Graph:
    """Replays what it is told to."""

    does: Callable[[], None]

    def capture_begin(self) -> None:
        pass

    def capture_end(self) -> None:
        pass

    def replay(self) -> None:
        self.does()


@contextmanager
def recording_graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Recording, list[TorchIntegration]]]:
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    kept: list[TorchIntegration] = []

    class Kept(TorchIntegration):
        def install(self, patch: Any, record: Any) -> None:
            super().install(patch, record)
            kept.append(self)

    with recorded(Kept) as recording:
        yield recording, kept


class Training:
    """The usual way to use a graph: warm-up steps, one capture on static tensors, replays with new data in them."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = nn.Linear(4, 1)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.input = torch.randn(8, 4)
        self.losses: list[float] = []

    def warm_up(self, steps: int) -> None:
        for _ in range(steps):
            loss = self.model(self.input).square().mean()
            loss.backward()
            self.optimizer.step()
            self.losses.append(loss.item())

    def work(self, into: torch.Tensor, is_stepping: bool) -> None:
        """What the graph does: plain tensor operations, of which no hook knows."""
        x, weight, bias = self.input, self.model.weight, self.model.bias
        with torch.no_grad():
            out = x @ weight.T + bias
            into.copy_(out.square().mean())
            grad = 2 * out / out.numel()
            for parameter, value in ((weight, grad.T @ x), (bias, grad.sum(0))):
                assert parameter.grad is not None
                parameter.grad.copy_(value)
                if is_stepping:
                    parameter.sub_(0.1 * value)

    def capture(self, is_stepping: bool = True) -> Graph:
        graph = Graph()
        weights = [parameter.detach().clone() for parameter in self.model.parameters()]
        graph.capture_begin()
        static_loss = self.model(self.input).square().mean()
        static_loss.backward()
        if is_stepping:
            self.optimizer.step()
        graph.capture_end()
        with torch.no_grad():  # a capture does nothing
            for parameter, weight in zip(self.model.parameters(), weights, strict=True):
                parameter.copy_(weight)
        self.static_loss = static_loss.detach_()
        graph.does = lambda: self.work(self.static_loss, is_stepping)
        return graph


def test_each_replay_is_a_step_with_its_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """The capture is no step; the series of warm-up and replays goes on under the variable's name at the capture."""
    with recording_graphs(monkeypatch) as (recording, _):
        training = Training()
        training.warm_up(3)
        graph = training.capture()
        replayed = []
        for _ in range(5):
            training.input.copy_(torch.randn(8, 4))
            graph.replay()
            replayed.append(training.static_loss.item())
    assert recording.series("loss") == list(enumerate(training.losses))
    assert recording.series("static_loss") == list(enumerate(replayed, 3))
    assert recording.step == 7
    assert recording.notes == []


def test_optimizer_outside_of_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss of a replay belongs to the step that follows it."""
    with recording_graphs(monkeypatch) as (recording, _):
        training = Training()
        training.warm_up(2)
        graph = training.capture(is_stepping=False)
        replayed = []
        for _ in range(4):
            graph.replay()
            replayed.append(training.static_loss.item())
            training.optimizer.step()
    assert recording.series("static_loss") == list(enumerate(replayed, 2))
    assert len(set(replayed)) == 4


def test_loss_that_nobody_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its memory may hold something else by now: no value is made up, the steps are counted and the reason is told."""
    with recording_graphs(monkeypatch) as (recording, _):
        training = Training()
        training.warm_up(2)
        graph = training.capture()
        kept = training.static_loss.clone()
        training.static_loss = kept
        graph.replay()
        graph.replay()
    assert recording.values("static_loss") == []
    assert [step for step, _ in recording.series("step_time")] == [1, 2, 3]
    assert len(set(recording.notes)) == 1
    assert "keeps no variable" in recording.notes[0]


@pytest.mark.parametrize("name", ["capture_begin", "capture_end"])
def test_capture_that_fails(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The program gets its error; recording goes on after it, and values of a device are asked for again."""

    def refuse(self: Graph) -> None:
        raise RuntimeError("of CUDA")

    monkeypatch.setattr(Graph, name, refuse)
    with recording_graphs(monkeypatch) as (recording, kept):
        training = Training()
        training.warm_up(1)
        graph = Graph()
        if name == "capture_end":
            graph.capture_begin()
            assert kept[0].loop.scalars.captures == 1
            assert recording.is_suppressed()
        with pytest.raises(RuntimeError, match="of CUDA"):
            getattr(graph, name)()
        training.warm_up(2)
    assert kept[0].loop.scalars.captures == 0
    assert recording.series("loss") == list(enumerate(training.losses))


def test_graph_without_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inference graphs, and those of torch.compile, are none of ours."""
    with recording_graphs(monkeypatch) as (recording, kept):
        training = Training()
        training.warm_up(2)
        graph = Graph()
        graph.capture_begin()
        with torch.no_grad():
            training.model(training.input)
        graph.capture_end()
        graph.does = lambda: None
        graph.replay()
    assert recording.step == 1
    assert kept[0].loop.graphs._captured == {}
