"""Steps that wait: each finding, the near miss, and what it says where nothing was recorded."""

from __future__ import annotations

import numpy as np
import pytest

from collector.profiles.recording import Training, facts
from looptap_collector.backend import Backend
from looptap_collector.profiles.waiting import workers_to_cover


def test_waiting_for_data(backend: Backend) -> None:
    """More than a fifth of the time: how much, and how many workers would cover it."""
    training = Training(backend, step=0.1)
    training.phases(data=0.06, forward=0.02, backward=0.02)
    training.params({"data.num_workers": 0, "allotted.cpus": 8.0})
    finding = training.finding("waiting_for_data")
    assert finding is not None
    assert finding.weight == pytest.approx(0.6)
    assert "60 % of the time of the steps went by waiting for the DataLoader: 60 ms of 100 ms" in finding.says
    assert "num_workers=2" in finding.advice
    assert facts(finding)["mean wait for a batch"] == pytest.approx(0.06)
    assert finding.threshold == "20 % of the step time"


def test_waiting_for_data_of_keras(backend: Backend) -> None:
    """Which has no DataLoader, and its own ways to mend it."""
    training = Training(backend, step=0.1)
    training.phases(data=0.06, train=0.03, other=0.01)
    training.params({"keras.version": "3.15.1"})
    finding = training.finding("waiting_for_data")
    assert finding is not None
    assert "60 % of the time of the steps went by waiting for data: 60 ms of 100 ms" in finding.says
    assert "keras.utils.PyDataset" in finding.advice
    assert "DataLoader" not in finding.says + finding.advice


def test_waiting_for_data_near_miss(backend: Backend) -> None:
    training = Training(backend, step=0.1)
    training.phases(data=0.019, forward=0.04, backward=0.041)
    assert training.finding("waiting_for_data") is None


def test_waiting_for_data_not_recorded(backend: Backend) -> None:
    """Loops without a DataLoader have no time for data: nothing is claimed of them."""
    assert Training(backend).missing("waiting_for_data") == "time.data"


def test_the_worst_rank_waits(backend: Backend) -> None:
    training = Training(backend, ranks=2)
    training.phases(data=0.001)
    training.phase("step_time", 0.1, rank=1)
    training.phases(rank=1, data=0.05)
    finding = training.finding("waiting_for_data")
    assert finding is not None
    assert "(rank 1, the worst)" in finding.says


@pytest.mark.parametrize(
    ("workers", "wait", "step", "needed"),
    # In the main process a batch takes as long to make as one waits; two workers that are waited for make two in two steps.
    [(0, 0.06, 0.1, 2), (0, 0.09, 0.1, 9), (2, 0.05, 0.1, 4), (4, 0.02, 0.1, 5)],
)
def test_workers_that_cover_it(workers: int, wait: float, step: float, needed: int) -> None:
    assert workers_to_cover(workers, wait, step) == needed


def test_more_workers_than_cpus(backend: Backend) -> None:
    """Where the run has not so many CPUs, that is said."""
    training = Training(backend)
    training.phases(data=0.08)
    training.params({"data.num_workers": 0, "allotted.cpus": 2.0})
    finding = training.finding("waiting_for_data")
    assert finding is not None
    assert "num_workers=4" in finding.advice
    assert "2 CPUs only" in finding.advice


def test_waits_in_a_few_steps(backend: Backend) -> None:
    """Workers that are started for each pass: more of them would not help, keeping them does."""
    training = Training(backend, steps=100)
    waits = [0.001] * 100
    waits[50], waits[75] = 3.0, 3.0
    training.phase("time.data", waits)
    training.phase("step_time", [0.1 + wait for wait in waits])
    training.params({"data.num_workers": 2, "data.persistent_workers": False})
    finding = training.finding("waiting_for_data")
    assert finding is not None
    assert "98 % of it is in a few steps" in finding.advice
    assert "persistent_workers=True" in finding.advice
    training.params({"data.persistent_workers": True})
    finding = training.finding("waiting_for_data")
    assert finding is not None
    assert "num_workers=" in finding.advice


def test_the_first_steps_are_left_out(backend: Backend) -> None:
    """Starting workers and compiling is not what a training is held back by."""
    training = Training(backend, steps=50)
    training.phase("step_time", [30.0, 1, 1, *[0.1] * 47])
    training.phase("time.data", [29.0, 1, 1, *[0.001] * 47])
    assert training.finding("waiting_for_data") is None


def test_one_start_of_workers_is_no_waiting(backend: Backend) -> None:
    """Of a short run all steps are looked at; what it waits once, however long, is not what holds it back."""
    training = Training(backend, steps=20)
    waits = [0.001] * 20
    waits[0] = 3.0
    training.phase("time.data", waits)
    training.phase("step_time", [0.1 + wait for wait in waits])
    assert training.finding("waiting_for_data") is None
    waits[10] = 3.0
    training.phase("time.data", waits)
    training.phase("step_time", [0.1 + wait for wait in waits])
    assert training.finding("waiting_for_data") is not None


@pytest.mark.parametrize(("wait", "told"), [(0.0976, "41 workers"), (0.09999, "more than 1000 workers")])
def test_more_workers_than_a_machine_has(backend: Backend, wait: float, told: str) -> None:
    """The number is said as it is, where it is one."""
    training = Training(backend, step=0.1)
    training.phases(data=wait)
    training.params({"data.num_workers": 0})
    finding = training.finding("waiting_for_data")
    assert finding is not None
    assert finding.advice.startswith(f"It would take {told} to cover it")


def test_two_optimizers_that_share_a_step(backend: Backend) -> None:
    """Each tells how long it took since the one before; together they are the step."""
    training = Training(backend, steps=0)
    training.steps = 50
    for optimizer, data, forward in (("first", 0.06, 0.02), ("second", 0.0, 0.02)):
        training.phase("step_time", data + forward, optimizer=optimizer)
        training.phase("time.data", data, optimizer=optimizer)
        training.phase("time.forward", forward, optimizer=optimizer)
    finding = training.finding("waiting_for_data")
    assert finding is not None
    assert "60 % of the time of the steps went by waiting for the DataLoader: 60 ms of 100 ms" in finding.says
    profile = training.profile()
    assert profile.step_seconds == pytest.approx(0.1)
    assert (profile.steps, profile.steps_looked_at) == (50, 47)
    assert [(phase.name, round(phase.share, 6)) for phase in profile.phases] == [("data", 0.6), ("forward", 0.4)]


def test_two_optimizers_of_two_ranks(backend: Backend) -> None:
    """A rank is judged by all of a step: the one whose second optimizer takes long, though its first one is the quickest."""
    training = Training(backend, steps=0, ranks=2)
    training.steps = 50
    for rank, (first, second) in enumerate([(0.06, 0.04), (0.05, 0.10)]):
        for optimizer, seconds in (("first", first), ("second", second)):
            training.phase("step_time", seconds, rank=rank, optimizer=optimizer)
            training.phase("time.forward", seconds, rank=rank, optimizer=optimizer)
    assert training.profile().step_seconds == pytest.approx(0.1)
    finding = training.finding("slow_rank")
    assert finding is not None
    assert facts(finding)["the slowest, of the steps"] == 100
    assert facts(finding)["mean lag in these"] == pytest.approx(0.05)
    assert "rank 1" in finding.says


def test_copies_to_the_device(backend: Backend) -> None:
    training = Training(backend)
    training.phases(transfer=0.02)
    training.params({"data.pin_memory": False})
    finding = training.finding("host_to_device_bound")
    assert finding is not None
    assert finding.weight == pytest.approx(0.2)
    assert "pin_memory=True" in finding.advice


def test_copies_near_miss(backend: Backend) -> None:
    training = Training(backend)
    training.phases(transfer=0.0149)
    assert training.finding("host_to_device_bound") is None


def test_a_bus_that_is_full(backend: Backend) -> None:
    """Where copies are not timed: much traffic all the time, and a device that does not compute all the time."""
    training = Training(backend)
    training.samples("system.gpu.0.pcie_received_rate", 7e9)
    training.samples("system.gpu.0.utilization", 60.0)
    finding = training.finding("host_to_device_bound")
    assert finding is not None
    assert "7.0 GB a second" in finding.says


@pytest.mark.parametrize(("rate", "busy"), [(5.9e9, 60.0), (7e9, 81.0)])
def test_a_bus_near_miss(backend: Backend, rate: float, busy: float) -> None:
    training = Training(backend)
    training.samples("system.gpu.0.pcie_received_rate", rate)
    training.samples("system.gpu.0.utilization", busy)
    assert training.finding("host_to_device_bound") is None


def test_copies_not_recorded(backend: Backend) -> None:
    assert Training(backend).missing("host_to_device_bound") == "a GPU"


def _with_checkpoints(backend: Backend, seconds: float) -> Training:
    training = Training(backend, steps=100)
    times = np.full(100, 0.1)
    times[[21, 41, 61, 81]] = seconds
    training.phase("step_time", times.tolist())
    training.saved(20, 40, 60, 80)
    return training


def test_checkpoint_stalls(backend: Backend) -> None:
    finding = _with_checkpoints(backend, 1.1).finding("checkpoint_stalls")
    told = facts(finding)
    assert told["checkpoints that stalled a step"] == 4
    assert told["mean stall"] == pytest.approx(1.0)
    assert finding is not None
    assert finding.weight == pytest.approx(4 / (93 * 0.1 + 4 * 1.1))


def test_checkpoint_near_miss(backend: Backend) -> None:
    """They cost, but less than a twentieth; and steps that are long without one are not theirs."""
    training = _with_checkpoints(backend, 0.21)
    assert training.finding("checkpoint_stalls") is None


def test_a_checkpoint_before_workers_start(backend: Backend) -> None:
    """The wait for data behind a checkpoint is not the checkpoint's."""
    training = _with_checkpoints(backend, 1.1)
    waits = [0.0] * 100
    for step in (21, 41, 61, 81):
        waits[step] = 1.0
    training.phase("time.data", waits)
    assert training.finding("checkpoint_stalls") is None


def test_checkpoints_beside_validations(backend: Backend) -> None:
    """Whose time that was nobody can tell."""
    training = _with_checkpoints(backend, 1.1)
    training._write("validation/loss", [20, 40, 60, 80], [0] * 4, [1.0] * 4, 0)
    assert training.missing("checkpoint_stalls").startswith("a checkpoint without a validation")


def test_no_checkpoints(backend: Backend) -> None:
    assert Training(backend).missing("checkpoint_stalls") == "a checkpoint with its step"


def _job(backend: Backend, slow: float) -> Training:
    training = Training(backend, ranks=3)
    training.phase("step_time", 0.1, rank=1)
    training.phase("step_time", slow, rank=2)
    return training


def test_slow_rank(backend: Backend) -> None:
    finding = _job(backend, 0.12).finding("slow_rank")
    assert finding is not None
    assert "rank 2" in finding.says
    assert facts(finding)["mean lag in these"] == pytest.approx(0.02)
    assert finding.weight == pytest.approx(0.02 / 0.12)


def test_slow_rank_near_miss(backend: Backend) -> None:
    assert _job(backend, 0.104).finding("slow_rank") is None


def test_slow_rank_of_one_process(backend: Backend) -> None:
    assert Training(backend).missing("slow_rank") == "the times of several ranks"
