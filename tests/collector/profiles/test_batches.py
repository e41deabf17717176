"""Batches that are too small for what a step costs however large its batch is."""

from __future__ import annotations

import pytest

from collector.profiles.recording import Training
from looptap_collector.backend import Backend


def _on_the_cpu(backend: Backend, optimizer: float, batch: int) -> Training:
    training = Training(backend, step=0.01)
    training.phases(data=0.001, forward=0.003, backward=0.009 - 0.003 - optimizer, optimizer=optimizer, other=0.001)
    training.params({"data.batch_size": batch, "model.device": "cpu"})
    return training


def test_tiny_batches(backend: Backend) -> None:
    """What does not depend on the batch is most of the step; a larger batch saves all but a part of that."""
    finding = _on_the_cpu(backend, 0.004, 4).finding("tiny_batches")
    assert finding is not None
    assert "50 % of it would be the same for any number of them" in finding.says
    assert finding.weight == pytest.approx(0.5 * (1 - 4 / 64))
    assert "with 64" in finding.advice


def test_a_loop_with_much_around_it(backend: Backend) -> None:
    """Where most of it is the program's own doing, that is what is told; and long steps do not count as saved."""
    training = Training(backend, steps=100, step=0.01)
    training.phase("step_time", [0.01] * 90 + [0.1] * 10)
    training.phases(forward=0.002, backward=0.002, optimizer=0.001, other=0.005)
    training.params({"data.batch_size": 4})
    finding = training.finding("tiny_batches")
    assert finding is not None
    assert "the loop around the training" in finding.says
    assert finding.advice.startswith("Look at what the loop does in each step")
    assert finding.weight == pytest.approx(0.6 * (1 - 4 / 64) * 97 * 0.01 / (87 * 0.01 + 10 * 0.1))


def _of_keras(backend: Backend, other: float, batch: int) -> Training:
    training = Training(backend, step=0.01)
    training.phases(data=0.001, train=0.009 - other, other=other)
    training.params({"keras.version": "3.15.1", "fit.batch_size": batch, "model.device": "cpu"})
    return training


def test_tiny_batches_of_keras(backend: Backend) -> None:
    """Of the parts that Keras' steps have, the loop and its callbacks do not depend on the batch."""
    finding = _of_keras(backend, 0.004, 4).finding("tiny_batches")
    assert finding is not None
    assert "40 % of it would be the same for any number of them: callbacks, and Keras' own loop" in finding.says
    assert "steps_per_execution" in finding.advice
    assert "fused" not in finding.advice


@pytest.mark.parametrize(("other", "batch"), [(0.0029, 4), (0.004, 33)])
def test_tiny_batches_of_keras_near_miss(backend: Backend, other: float, batch: int) -> None:
    assert _of_keras(backend, other, batch).finding("tiny_batches") is None


def test_keras_on_a_gpu_that_waits_for_python(backend: Backend) -> None:
    training = Training(backend, step=0.01)
    training.phases(data=0.001, train=0.008, other=0.001)
    training.params({"keras.version": "3.15.1", "model.device": "gpu:0", "data.batch_size": 8})
    training.samples("system.gpu.0.utilization", 20.0, every=0.1)
    finding = training.finding("tiny_batches")
    assert finding is not None
    assert "steps_per_execution" in finding.advice


@pytest.mark.parametrize(("optimizer", "batch"), [(0.0019, 4), (0.004, 33)])
def test_tiny_batches_near_miss(backend: Backend, optimizer: float, batch: int) -> None:
    assert _on_the_cpu(backend, optimizer, batch).finding("tiny_batches") is None


def test_without_a_batch_size(backend: Backend) -> None:
    training = Training(backend)
    assert training.missing("tiny_batches") == "time.optimizer"
    training.phases(optimizer=0.05)
    assert training.missing("tiny_batches") == "the batch size"


def _on_a_gpu(backend: Backend, busy: float, data: float = 0.001) -> Training:
    training = Training(backend, step=0.01)
    training.phases(data=data, forward=0.004 - data / 2, backward=0.004 - data / 2, optimizer=0.001)
    training.params({"model.device": "cuda:0", "data.batch_size": 8})
    training.samples("system.gpu.0.utilization", busy, every=0.1)
    return training


def test_a_gpu_that_waits_for_python(backend: Backend) -> None:
    finding = _on_a_gpu(backend, 20.0).finding("tiny_batches")
    assert finding is not None
    assert "GPU 0 computes 20 % of the time" in finding.says


@pytest.mark.parametrize(("busy", "data"), [(51.0, 0.001), (20.0, 0.0021)])
def test_a_gpu_near_miss(backend: Backend, busy: float, data: float) -> None:
    """One that computes, and one that waits for data and not for Python."""
    assert _on_a_gpu(backend, busy, data).finding("tiny_batches") is None


def test_a_gpu_without_samples(backend: Backend) -> None:
    training = Training(backend)
    training.phases(optimizer=0.05)
    training.params({"model.device": "cuda:0"})
    assert training.missing("tiny_batches") == "a GPU"
