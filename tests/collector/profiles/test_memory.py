"""Memory that ran out, nearly did, and is left."""

from __future__ import annotations

import pytest

from collector.profiles.recording import Training, facts
from looptap_collector.backend import Backend

MIB, GIB = 2.0**20, 2.0**30


def test_out_of_memory(backend: Backend) -> None:
    training = Training(backend, status="failed")
    training.samples("memory.out_of_memory", [1.0], device="cuda:0")
    training.note("memory", "out of memory, 2.0 GiB asked for and 1.0 GiB of 80.0 GiB free on cuda:0: …")
    finding = training.finding("out_of_memory")
    assert finding is not None
    assert finding.weight == 1.0
    assert "2.0 GiB asked for" in finding.says


def test_out_of_memory_survived(backend: Backend) -> None:
    """A program that looks for the largest batch runs out on purpose."""
    training = Training(backend)
    training.samples("memory.out_of_memory", [3.0], device="cuda:0")
    finding = training.finding("out_of_memory")
    assert finding is not None
    assert finding.weight == 0.5
    assert "the program went on" in finding.says


def test_killed_for_memory(backend: Backend) -> None:
    training = Training(backend, status="killed")
    training.samples("system.container.oom_kills", [2.0, 2, 3])
    finding = training.finding("out_of_memory")
    assert finding is not None
    assert "container" in finding.says
    assert "fewer workers" in finding.advice


def test_killed_for_memory_by_its_error(backend: Backend) -> None:
    """The kernel killed it before it could take another sample; whoever found it says why."""
    why = "out of memory; the kernel has killed 1 of the processes in its container, which may use 512 MiB"
    finding = Training(backend, status="killed", error=why).finding("out_of_memory")
    assert finding is not None
    assert why in finding.says
    assert finding.weight == 1.0


def test_not_out_of_memory(backend: Backend) -> None:
    training = Training(backend)
    assert training.missing("out_of_memory") == "the memory of a device or a container"
    training.samples("memory.out_of_memory", [0.0], device="cuda:0")
    training.samples("system.container.oom_kills", 2.0)  # of another run, before this one
    assert training.finding("out_of_memory") is None


@pytest.mark.parametrize(
    "key", ["system.container.memory_percent", "system.memory.percent", "system.gpu.0.memory_percent"]
)
def test_memory_nearly_full(backend: Backend, key: str) -> None:
    training = Training(backend)
    training.samples(key, [50.0, 96.0, 60.0])
    finding = training.finding("memory_nearly_full")
    assert finding is not None
    assert "96 % full" in finding.says


def test_memory_nearly_full_near_miss(backend: Backend) -> None:
    training = Training(backend)
    assert training.missing("memory_nearly_full") == "how much of the memory was in use"
    training.samples("system.memory.percent", 94.9)
    assert training.finding("memory_nearly_full") is None


def _on_a_gpu(backend: Backend, peak: float) -> Training:
    training = Training(backend)
    training.samples("memory.peak", peak, device="cuda:0")
    training.samples("memory.reserved", peak, device="cuda:0")
    training.samples("system.gpu.0.memory_used", peak + GIB)
    training.params(
        {
            "allotted.gpu.0.memory": int(40 * GIB),
            "data.batch_size": 32,
            "model.parameters": int(GIB / 4),
            "model.parameters_trainable": int(GIB / 4),
            "model.parameters_float32": int(GIB / 4),
            "optimizer.class": "torch.optim.adamw.AdamW",
        }
    )
    return training


def test_room_for_larger_batches(backend: Backend) -> None:
    """Of 40 GiB, 1 is used beside torch and 10 % are kept free: 35. 3 are weights and Adam's: a batch may have 32 where 8 had 8."""
    finding = _on_a_gpu(backend, 11 * GIB).finding("room_for_larger_batches")
    assert finding is not None
    assert "a batch of about 120 would still fit (now 32)" in finding.says
    assert facts(finding)["held whatever the batch"] == 3 * GIB
    assert facts(finding)["used beside torch's allocator"] == GIB


def test_no_room(backend: Backend) -> None:
    assert _on_a_gpu(backend, 19.1 * GIB).finding("room_for_larger_batches") is None


def test_room_not_recorded(backend: Backend) -> None:
    """Without the memory of the GPU, the batch size, or what others use of it, no batch is proposed."""
    training = Training(backend)
    assert training.missing("room_for_larger_batches") == "memory.peak of a device"
    training.samples("memory.peak", GIB, device="cuda:0")
    assert training.missing("room_for_larger_batches") == "allotted.gpu.0.memory"
    training.params({"allotted.gpu.0.memory": int(40 * GIB)})
    assert training.missing("room_for_larger_batches") == "the batch size"
    training.params({"data.batch_size": 32})
    assert training.missing("room_for_larger_batches") == "system.gpu.0.memory_used beside memory.reserved"
