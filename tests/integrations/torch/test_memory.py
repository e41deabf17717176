"""What torch's allocator holds, and what it held when memory ran out. The allocator is a stand-in; there is no device here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from integrations.recording import Recording, recorded
from looptap.integration import Integration
from looptap.patching import Patcher
from looptap.recorder import Recorder
from looptap_integrations.torch import memory
from looptap_integrations.torch.memory import Memory, Observer

GIB = 2**30


def stats(allocated: int, reserved: int, peak: int, retries: int = 0, failed: int = 0) -> dict[str, Any]:
    """As of ``torch.cuda.memory_stats_as_nested_dict``."""
    return {
        "num_alloc_retries": retries,
        "num_ooms": failed,
        "allocated_bytes": {"all": {"current": allocated, "peak": peak, "allocated": 1, "freed": 1}},
        "reserved_bytes": {"all": {"current": reserved, "peak": reserved, "allocated": 1, "freed": 1}},
    }


class FakeAllocator:
    kind = "cuda"

    def __init__(self) -> None:
        self.ready = True
        self.devices = [stats(3 * GIB, 4 * GIB, 5 * GIB), stats(0, 0, 0)]
        self.can_watch = True
        self.observers: list[Observer] = []

    def is_ready(self) -> bool:
        return self.ready

    def count(self) -> int:
        assert self.ready, "asking would begin the use of the device"
        return len(self.devices)

    def stats(self, index: int) -> dict[str, Any]:
        return self.devices[index]

    def blocks(self, index: int) -> list[int]:
        return [2 * GIB, 512, 2 * GIB, 300 * 2**20]

    def watch(self, observer: Observer) -> bool:
        if self.can_watch:
            self.observers.append(observer)
        return self.can_watch


@contextmanager
def sampled() -> Iterator[tuple[Recording, FakeAllocator, Memory]]:
    allocator = FakeAllocator()
    kept: list[Memory] = []

    class Watching(Integration):
        def install(self, patch: Patcher, record: Recorder) -> None:
            kept.append(Memory(record, allocator))
            kept[0].install(patch)

    with recorded(Watching) as recording:
        recording.begin()
        yield recording, allocator, kept[0]


def test_series_per_device() -> None:
    """Bytes at the step under way; a device that is not in use has no series."""
    with sampled() as (recording, allocator, looked):
        looked.sample()
        assert recording.points == []  # before the first step
        recording.step = 7
        looked.sample()
        allocator.devices[0] = stats(1 * GIB, 4 * GIB, 6 * GIB, retries=2)
        recording.step = 8
        looked.sample()
        looked.sample()
    assert recording.series("memory.allocated", device="cuda:0") == [(7, 3.0 * GIB), (8, 1.0 * GIB), (8, 1.0 * GIB)]
    assert recording.values("memory.reserved", device="cuda:0") == [4.0 * GIB] * 3
    assert recording.values("memory.peak", device="cuda:0") == [5.0 * GIB, 6.0 * GIB, 6.0 * GIB]
    assert recording.series("memory.retries", device="cuda:0") == [(8, 2.0)]
    assert {context["device"] for *_, context in recording.points} == {"cuda:0"}


def test_device_is_not_woken() -> None:
    """Before the program uses it, nothing is asked."""
    with sampled() as (recording, allocator, looked):
        allocator.ready = False
        recording.step = 3
        looked.sample()
        assert allocator.observers == []
    assert recording.points == []


def test_out_of_memory_is_told_with_what_was_held() -> None:
    """Also where the program catches the error and goes on."""
    with sampled() as (recording, allocator, looked):
        looked.sample()
        recording.step = 11
        allocator.observers[0](0, 3 * GIB // 2, 80 * GIB, 600 * 2**20)
        allocator.devices[0] = stats(3 * GIB, 4 * GIB, 5 * GIB, failed=1)
        looked.sample()
    assert recording.notes == [
        "out of memory, 1.50 GiB asked for and 600.0 MiB of 80.00 GiB free on cuda:0, in step 12: torch had 3.00 GiB allocated and"
        " 4.00 GiB reserved in 4 blocks, the largest: 2 × 2.00 GiB, 1 × 300.0 MiB, 1 × 512 B"
    ]
    assert recording.series("memory.out_of_memory", device="cuda:0") == [(11, 1.0)]


def test_search_for_a_batch_size_is_not_told_forever() -> None:
    """Five notes a run; the series counts all."""
    with sampled() as (recording, allocator, looked):
        looked.sample()
        recording.step = 0
        for size in range(50):
            allocator.observers[0](0, size, 80 * GIB, 0)
        assert len(recording.notes) == 5
        recording.new_run()
        looked.sample()
        allocator.observers[0](0, 1, 80 * GIB, 0)
    assert len(recording.notes) == 6


def test_without_an_observer() -> None:
    """Where torch tells nobody (XPU), the count of failures does."""
    with sampled() as (recording, allocator, looked):
        allocator.can_watch = False
        looked.sample()
        allocator.devices[0] = stats(3 * GIB, 4 * GIB, 5 * GIB, failed=1)
        looked.sample()
        looked.sample()
    assert len(recording.notes) == 1
    assert recording.notes[0].startswith("out of memory on cuda:0, in step 0: torch had 3.00 GiB allocated")


def test_nothing_after_stop() -> None:
    """The observer stays with torch, which takes none back; it does nothing any more."""
    with sampled() as (recording, allocator, looked):
        looked.sample()
    allocator.observers[0](0, 1, 80 * GIB, 0)
    assert recording.notes == []


def test_counts_are_of_the_run() -> None:
    """What happened before it began is not its own."""
    with sampled() as (recording, allocator, looked):
        allocator.devices[0] = stats(1, 2, 3, retries=10, failed=10)
        recording.step = 0
        looked.sample()
        allocator.devices[0] = stats(1, 2, 3, retries=13, failed=10)
        looked.sample()
    assert recording.values("memory.retries", device="cuda:0") == [3.0]
    assert recording.values("memory.out_of_memory", device="cuda:0") == []


def test_none_for_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A build for the CPU has no allocator to look at, and no thread for it; one for CUDA has, and asks no driver."""
    monkeypatch.setattr("torch.version.cuda", None)
    monkeypatch.setattr("torch.version.hip", None)
    assert memory.built_in() is None
    monkeypatch.setattr("torch.version.cuda", "12.8")
    found = memory.built_in()
    assert found is not None
    assert found.kind == "cuda"
    assert not found.is_ready()
