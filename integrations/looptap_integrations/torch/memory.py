"""What torch's allocator holds on each device, about once a second, beside the training; and what it held when memory ran out.

The allocator keeps these numbers on the host: reading them asks no device and waits for none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

import torch

from looptap.patching import Patcher
from looptap.recorder import Recorder

SECONDS = 1.0
#: A program that looks for the largest batch that fits runs out of memory again and again.
_TOLD_LIMIT = 5
_BLOCKS_TOLD = 5

#: Device, bytes asked for, bytes that may be used there, bytes that are free there.
Observer = Callable[[int, int, int, int], None]


class Allocator(Protocol):
    """What we ask of torch; a stand-in in tests."""

    kind: str

    def is_ready(self) -> bool:
        """Whether the program has begun to use the device. Asking must not begin it."""

    def count(self) -> int: ...

    def stats(self, index: int) -> dict[str, Any]: ...

    def blocks(self, index: int) -> list[int]:
        """Sizes in bytes of what is in use."""

    def watch(self, observer: Observer) -> bool:
        """Call it whenever an allocation fails for good. False where that cannot be had. There is no way back."""


class TorchAllocator:
    """CUDA and ROCm, or XPU."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._module = getattr(torch, kind)  # torch.get_device_module() came with 2.5

    def is_ready(self) -> bool:
        return bool(self._module.is_initialized())

    def count(self) -> int:
        return int(self._module.device_count())

    def stats(self, index: int) -> dict[str, Any]:
        return self._module.memory_stats_as_nested_dict(index)  # type: ignore[no-any-return]

    def blocks(self, index: int) -> list[int]:
        if self.kind != "cuda":
            return []
        return [
            block["size"]
            for segment in torch.cuda.memory_snapshot()
            if segment["device"] == index
            for block in segment["blocks"]
            if block["state"].startswith("active")
        ]

    def watch(self, observer: Observer) -> bool:
        attach = getattr(torch._C, f"_{self.kind}_attach_out_of_memory_observer", None)
        if attach is None:
            return False
        attach(observer)
        return True


def built_in() -> Allocator | None:
    """That of this build of torch; None where it knows the CPU only. Asks no driver: that would break a later fork."""
    if torch.version.cuda or torch.version.hip:
        return TorchAllocator("cuda")
    if getattr(torch.xpu, "_is_compiled", lambda: False)():
        return TorchAllocator("xpu")
    return None


class Memory:
    def __init__(self, record: Recorder, allocator: Allocator) -> None:
        self._record = record
        self._allocator = allocator
        self._is_watching: bool | None = None
        self._observers: list[Observer] = []
        self._generation = -1
        self._told = 0
        #: By device: torch's counts when the run began, and by series what was written of them.
        self._counts: dict[tuple[int, str], int] = {}

    def install(self, patch: Patcher) -> None:
        patch.hook(self._observe, self.out_of_memory)
        patch.hook(self._record.every, self.sample, SECONDS)

    def sample(self) -> None:
        """Record what is held now. Nothing before the first step, which it would have no place in."""
        allocator, record = self._allocator, self._record
        if not allocator.is_ready():
            return
        if self._is_watching is None:
            # Not sooner: before the device is in use there is no allocator to attach anything to.
            self._is_watching = allocator.watch(self._ran_out)
        if record.generation != self._generation:
            self._generation, self._told = record.generation, 0
            self._counts = {
                (index, key): allocator.stats(index).get(key, 0)
                for index in range(allocator.count())
                for key in ("num_alloc_retries", "num_ooms")
            }
        for index in range(allocator.count()):
            stats = allocator.stats(index)
            held = _bytes(stats, "reserved_bytes", "peak")
            if not held:
                continue
            if not self._is_watching and self._changed(index, "told", stats, "num_ooms"):
                self._tell(index, "out of memory")
            if record.step < 0:
                continue
            values = {
                "memory.allocated": _bytes(stats, "allocated_bytes", "current"),
                "memory.reserved": _bytes(stats, "reserved_bytes", "current"),
                "memory.peak": _bytes(stats, "allocated_bytes", "peak"),
                "memory.reserved_peak": held,
                **self._changed(index, "memory.retries", stats, "num_alloc_retries"),
                **self._changed(index, "memory.out_of_memory", stats, "num_ooms"),
            }
            record.log_metrics(values, context={"device": f"{allocator.kind}:{index}"})

    def out_of_memory(self, index: int, asked: int, limit: int, free: int) -> None:
        """An allocation has failed, and torch is about to raise ``OutOfMemoryError``."""
        self._tell(index, f"out of memory, {_size(asked)} asked for and {_size(free)} of {_size(limit)} free")

    # --- private ------------------------------------------------------------------------------------------------------

    def _observe(self, observer: Observer) -> Attached:
        self._observers.append(observer)
        return Attached(self._observers, observer)

    def _ran_out(self, index: int, asked: int, limit: int, free: int) -> None:
        for observer in list(self._observers):
            observer(index, asked, limit, free)

    def _tell(self, index: int, what: str) -> None:
        if self._told < _TOLD_LIMIT:
            self._told += 1
            where = f"{self._allocator.kind}:{index}, in step {self._record.step + 1}"
            self._record.note("memory", f"{what} on {where}: {self._held(index)}")

    def _changed(self, index: int, name: str, stats: dict[str, Any], key: str) -> dict[str, float]:
        """How often it has happened in this run, when that has changed."""
        count = stats.get(key, 0)
        place = (index, key)
        last = (index, name)
        happened = count - self._counts.get(place, 0)
        if happened == self._counts.get(last, 0):
            return {}
        self._counts[last] = happened
        return {name: float(happened)}

    def _held(self, index: int) -> str:
        stats = self._allocator.stats(index)
        allocated, reserved = (_bytes(stats, key, "current") for key in ("allocated_bytes", "reserved_bytes"))
        blocks = self._allocator.blocks(index)
        text = f"torch had {_size(allocated)} allocated and {_size(reserved)} reserved"
        if blocks:
            largest = sorted(Counter(blocks).items(), reverse=True)[:_BLOCKS_TOLD]
            told = ", ".join(f"{count} × {_size(size)}" for size, count in largest)
            text += f" in {len(blocks):,} blocks, the largest: {told}"
        return text


class Attached:
    """``remove()`` as of a hook."""

    def __init__(self, observers: list[Observer], observer: Observer) -> None:
        self._observers = observers
        self._observer = observer

    def remove(self) -> None:
        self._observers.remove(self._observer)


def _bytes(stats: dict[str, Any], key: str, which: str) -> float:
    return float(stats.get(key, {}).get("all", {}).get(which, 0))


def _size(size_bytes: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.2f} GiB"
