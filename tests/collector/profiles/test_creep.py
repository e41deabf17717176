"""Memory that grows and grows, and what only looks like it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from collector.profiles.recording import SECOND, Training, facts
from looptap_collector.backend import Backend, History
from looptap_collector.profiles.creep import creep_of

MIB, GIB = 2.0**20, 2.0**30


def _noisy(values: np.ndarray) -> list[float]:
    noise = np.random.default_rng(0).normal(0, 2 * MIB, len(values))
    return [float(value) for value in values + noise]


def _creeping(backend: Backend, per_second: float) -> Training:
    training = Training(backend, steps=600)
    training.samples("system.process.memory", _noisy(GIB + per_second * np.arange(61)))
    return training


def test_memory_creep(backend: Backend) -> None:
    """How fast, how sure, and when it will be over."""
    training = _creeping(backend, 10 * MIB)
    training.samples("system.memory.available", 4 * GIB)
    finding = training.finding("memory_creep")
    told = facts(finding)
    assert told["growth"] == pytest.approx(10 * MIB * 3600, rel=0.02)
    assert told["at least (95 %)"] < 10 * MIB * 3600 < told["at most (95 %)"]
    assert finding is not None
    assert finding.weight == 0.95
    assert "the rest is used up in 6 min" in finding.says
    assert "keep loss.item()" in finding.advice


def test_memory_creep_of_a_training_that_is_slowed_down(backend: Backend) -> None:
    """Each step keeps as much; in most of the time there are few of them."""
    training = Training(backend, steps=0)
    training.steps, ends = 300, np.concatenate((np.linspace(0.1, 20, 200), np.linspace(20.6, 80, 100)))
    training.phase("step_time", np.diff(ends, prepend=0.0).tolist(), ends=ends.tolist())
    growing = GIB + 2 * MIB * np.interp(np.arange(81), ends, np.arange(300))
    training.samples("system.process.memory", _noisy(growing))
    finding = training.finding("memory_creep")
    assert facts(finding)["growth"] == pytest.approx(600 * MIB / 80 * 3600, rel=0.05)


def test_memory_creep_without_a_limit(backend: Backend) -> None:
    """It is told, but nobody can say when that will hurt."""
    finding = _creeping(backend, 10 * MIB).finding("memory_creep")
    assert finding is not None
    assert finding.weight == 0.2
    assert "used up" not in finding.says


def test_memory_creep_near_miss(backend: Backend) -> None:
    """Steady, but little: 3 % of what there was are 31 MiB."""
    assert _creeping(backend, 0.5 * MIB).finding("memory_creep") is None


def test_memory_that_is_allocated_first(backend: Backend) -> None:
    """It grows in the first half, and stays: that is no creep."""
    training = Training(backend, steps=600)
    grown = GIB + 20 * MIB * np.minimum(np.arange(61), 35)
    training.samples("system.process.memory", _noisy(grown))
    assert training.finding("memory_creep") is None


def test_mapped_files_are_no_creep(backend: Backend) -> None:
    """They are memory of the process that touches them, and the kernel takes them back."""
    training = _creeping(backend, 10 * MIB)
    training.samples("system.process.memory_mapped", [100 * MIB + 45 * MIB * at for at in range(13)], every=5.0)
    assert training.finding("memory_creep") is None


def test_memory_creep_beside_others(backend: Backend) -> None:
    """Some files are mapped as well, and another program in the same container lets go of its memory."""
    training = _creeping(backend, 10 * MIB)
    training.samples("system.process.memory_mapped", [100 * MIB + MIB * at for at in range(13)], every=5.0)
    training.samples("system.container.memory", [8 * GIB - 50 * MIB * second for second in range(61)])
    assert training.finding("memory_creep") is not None


def test_memory_creep_in_a_container(backend: Backend) -> None:
    """The nearer of two limits counts."""
    training = _creeping(backend, 10 * MIB)
    training.samples("system.container.memory", [GIB + 10 * MIB * second for second in range(61)])
    training.samples("system.memory.available", 40 * GIB)
    training.params({"allotted.memory": int(2 * GIB)})
    finding = training.finding("memory_creep")
    assert facts(finding)["left until the limit"] == pytest.approx(GIB - 600 * MIB)


def test_memory_that_is_let_go_each_epoch(backend: Backend) -> None:
    """Predictions that are gathered for the mean of an epoch: steep for a while, and back to where it was."""
    training = Training(backend, steps=2000)
    training.samples("system.process.memory", _noisy(GIB + 10 * MIB * (np.arange(201) % 50)))
    assert training.finding("memory_creep") is None


_SHAPES = {
    "flat": lambda at: 0 * at,
    "filled and stays": lambda at: 300 * MIB * (1 - np.exp(-12 * at / at[-1])),
    "one step": lambda at: 200 * MIB * (at > 0.6 * at[-1]),
    "let go each epoch": lambda at: 100 * MIB * ((4 * at / at[-1]) % 1),
}


@pytest.mark.parametrize("samples", [16, 60, 600])
@pytest.mark.parametrize("shape", _SHAPES)
def test_no_false_alarms(shape: str, samples: int) -> None:
    """Of a hundred runs each, in noise, at most one is taken for a creep."""
    assert _alarms(_SHAPES[shape], samples, noise=5 * MIB) <= 1


@pytest.mark.parametrize("samples", [16, 60, 600])
def test_no_creep_is_missed(samples: int) -> None:
    """Of a hundred runs that grow by 20 times the noise nine in ten are told, however many samples there are."""
    assert _alarms(lambda at: 100 * MIB * at / at[-1], samples, noise=5 * MIB) >= 90


def _alarms(shape: Callable[[np.ndarray], np.ndarray], samples: int, noise: float) -> int:
    generator, at = np.random.default_rng(samples), np.arange(samples)
    runs = [GIB + shape(at) + generator.normal(0, noise, samples) for _ in range(100)]
    return sum(creep_of(History(at, at * SECOND, values), "", "", None) is not None for values in runs)


def test_memory_creep_on_a_device(backend: Backend) -> None:
    """Torch's own numbers tell it, too, with the limit of that GPU."""
    training = Training(backend, steps=600)
    growing = [GIB + 20 * MIB * second for second in range(61)]
    training.samples("memory.allocated", growing, device="cuda:1")
    training.params({"allotted.gpu.1.memory": int(80 * GIB)})
    finding = training.finding("memory_creep")
    assert finding is not None
    assert "torch on cuda:1" in finding.says
    assert facts(finding)["left until the limit"] == pytest.approx(80 * GIB - growing[-1])


def test_memory_creep_not_recorded(backend: Backend) -> None:
    training = Training(backend)
    assert training.missing("memory_creep") == "system.process.memory"
    training.samples("system.process.memory", [GIB] * 12)
    assert training.missing("memory_creep") == "12 samples of system.process.memory, not 11"
