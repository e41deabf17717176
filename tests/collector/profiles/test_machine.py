"""The container and the machine, and the GPUs in it."""

from __future__ import annotations

import pytest

from collector.profiles.recording import Training, facts
from looptap_collector.backend import Backend


def test_cpu_throttled(backend: Backend) -> None:
    training = Training(backend)
    training.samples("system.container.cpu_throttled", 30.0)
    training.samples("system.container.cpu", 99.0)
    training.params({"allotted.cpu_quota": 2.0, "torch.threads": 16})
    finding = training.finding("cpu_throttled")
    assert finding is not None
    assert finding.weight == pytest.approx(0.3)
    assert "torch.set_num_threads(2)" in finding.advice
    assert facts(finding)["torch.threads"] == 16
    assert facts(finding)["mean use of the quota"] == pytest.approx(99.0)


def test_cpu_throttled_near_miss(backend: Backend) -> None:
    training = Training(backend)
    training.samples("system.container.cpu_throttled", 4.9)
    assert training.finding("cpu_throttled") is None


def test_cpu_throttled_outside_of_the_training(backend: Backend) -> None:
    """What was before the first step and after the last one does not count."""
    training = Training(backend, steps=100)
    training.samples("system.container.cpu_throttled", [*[1.0] * 11, *[90.0] * 50])
    assert training.finding("cpu_throttled") is None


def test_swapping(backend: Backend) -> None:
    training = Training(backend)
    training.samples("system.swap.in_rate", [0.0] * 15 + [50e6] * 6)
    training.samples("system.swap.used", 2e9)
    finding = training.finding("swapping")
    assert finding is not None
    assert finding.weight == pytest.approx(6 / 21, abs=0.02)
    assert facts(finding)["swap in use at most"] == 2e9


def test_swapping_near_miss(backend: Backend) -> None:
    """A little all the time, and much for a moment."""
    training = Training(backend, steps=300)
    training.samples("system.swap.in_rate", [1e6] * 29 + [9e9])
    assert training.finding("swapping") is None


def test_gpu_idle(backend: Backend) -> None:
    """The idlest of those that the job sees; samples count for the time that they stand for."""
    training = Training(backend)
    training.samples("system.gpu.0.utilization", 90.0)
    training.samples("system.gpu.1.utilization", [100.0, 10, 10, 10, 10, 10], every=4.0)
    finding = training.finding("gpu_idle")
    assert finding is not None
    assert "GPU 1 computed" in finding.says
    assert facts(finding)["mean utilization of GPU 0"] == pytest.approx(90.0)


def test_gpu_idle_near_miss(backend: Backend) -> None:
    training = Training(backend)
    training.samples("system.gpu.0.utilization", 51.0)
    assert training.finding("gpu_idle") is None


def test_a_gpu_that_is_not_used(backend: Backend) -> None:
    training = Training(backend)
    training.samples("system.gpu.0.utilization", 90.0)
    training.samples("system.gpu.1.utilization", 0.0)
    finding = training.finding("gpu_idle")
    assert finding is not None
    assert finding.says == "GPU 1 did nothing at all during the training."
    training.params({"model.device": "cpu"})
    finding = training.finding("gpu_idle")
    assert finding is not None
    assert "the model is on the CPU" in finding.says
    assert ".to('cuda')" in finding.advice


@pytest.mark.parametrize(
    ("rule", "key"), [("gpu_power_throttled", "throttled_power"), ("gpu_heat_throttled", "throttled_heat")]
)
def test_gpu_throttled(backend: Backend, rule: str, key: str) -> None:
    """It costs what the clock lost, in that share of the time."""
    training = Training(backend)
    training.samples(f"system.gpu.0.{key}", [0.0, 1.0] * 10)
    training.samples("system.gpu.0.clock_sm", [1.5e9, 2e9, *[1.5e9] * 18])
    finding = training.finding(rule)
    assert finding is not None
    assert finding.weight == pytest.approx(0.5 * 0.25, rel=0.1)
    assert facts(finding)["median clock"] == 1.5e9


@pytest.mark.parametrize(
    ("rule", "key", "share"),
    [("gpu_power_throttled", "throttled_power", 19), ("gpu_heat_throttled", "throttled_heat", 4)],
)
def test_gpu_throttled_near_miss(backend: Backend, rule: str, key: str, share: int) -> None:
    training = Training(backend, steps=1000)
    training.samples(f"system.gpu.0.{key}", [1.0] * share + [0.0] * (100 - share))
    assert training.finding(rule) is None


@pytest.mark.parametrize(
    ("rule", "missing"),
    [
        ("cpu_throttled", "system.container.cpu_throttled"),
        ("swapping", "system.swap.in_rate"),
        ("gpu_idle", "a GPU"),
        ("gpu_power_throttled", "a GPU"),
        ("gpu_heat_throttled", "a GPU"),
    ],
)
def test_not_recorded(backend: Backend, rule: str, missing: str) -> None:
    assert Training(backend).missing(rule) == missing


def test_too_few_samples(backend: Backend) -> None:
    training = Training(backend)
    training.samples("system.gpu.0.utilization", [0.0] * 5)
    assert training.missing("gpu_idle") == "5 samples of system.gpu.0.utilization, not 4"
