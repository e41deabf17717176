"""Rules about memory that ran out, that nearly did, and that is left."""

from __future__ import annotations

import numpy as np

from looptap_collector.profiles.evidence import Evidence, NotRecorded, device_number
from looptap_collector.profiles.rule import Found, rule
from looptap_collector.profiles.shapes import Fact, said

#: Percent of what there is.
NEARLY_FULL = 95.0
#: A device of which less was ever used has room.
ROOM = 50.0
#: What is kept free when a larger batch is proposed: memory comes in blocks, and inputs differ.
SPARE = 0.10

_TYPE_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}


@rule(
    "out of memory",
    needs="`memory.out_of_memory`, `system.container.oom_kills`",
    threshold="once",
)
def out_of_memory(run: Evidence) -> Found | None:
    device = [row.last for row in run.series if row.key == "memory.out_of_memory" and row.last > 0]
    # The group's own count, which may have begun long before this run.
    counts = [row for row in run.series if row.key == "system.container.oom_kills"]
    killed = [row.last - row.min for row in counts if row.min is not None and row.last > row.min]
    told = next((note.message for note in run.run.notes if note.message.startswith("out of memory")), None)
    error = run.run.error or ""
    on_host = bool(killed) or "processes in its container" in error or error.startswith("MemoryError")
    on_device = bool(device) or told is not None or "OutOfMemoryError" in error
    if not (on_host or on_device):
        watched = any(row.key.startswith(("memory.", "system.container.memory")) for row in run.series)
        if not watched:
            raise NotRecorded("the memory of a device or a container")
        return None
    facts = [Fact("failed allocations on a device", sum(device), "count")] if device else []
    facts += [Fact("processes killed for memory in this container", sum(killed), "count")] if killed else []
    survived = run.run.status in ("finished", "running")
    detail = f" {told[0].upper()}{told[1:]}" if told else f" {error}" if error else ""
    return Found(
        f"{'The program or its container' if on_host else 'The device'} ran out of memory"
        f"{'; the program went on.' if survived else '.'}{detail}",
        "Use less memory on the host: fewer workers, a smaller prefetch_factor, data that is mapped and not read whole; "
        "or ask for a higher limit."
        if on_host
        else "Take a smaller batch with gradient accumulation, activation checkpointing (torch.utils.checkpoint) or bfloat16.",
        0.5 if survived else 1.0,
        tuple(facts),
    )


@rule(
    "memory nearly full",
    needs="`system.container.memory_percent`, `system.memory.percent`, `system.gpu.N.memory_percent`",
    threshold=f"{NEARLY_FULL:g} %, once",
)
def memory_nearly_full(run: Evidence) -> Found | None:
    keys = {
        "the container": "system.container.memory_percent",
        "the machine": "system.memory.percent",
        **{f"GPU {number}": f"system.gpu.{number}.memory_percent" for number in run.gpus()},
    }
    peaks: dict[str, float] = {}
    for where, key in keys.items():
        try:
            peaks[where] = max(float(samples.values.max()) for samples in run.samples(key, 1).values())
        except NotRecorded:
            continue
    if not peaks:
        raise NotRecorded("how much of the memory was in use")
    where, peak = max(peaks.items(), key=lambda item: item[1])
    if peak < NEARLY_FULL:
        return None
    is_gpu = where.startswith("GPU")
    return Found(
        f"The memory of {where} was {peak:.0f} % full: a little more, and the run ends.",
        "Take a somewhat smaller batch, or see memory.peak for what torch itself needs: its allocator keeps what it once had"
        if is_gpu
        else "Use fewer workers or a smaller prefetch_factor, or ask for a higher limit",
        0.3 if not is_gpu else 0.1,
        tuple(Fact(f"most memory of {name} in use", value, "percent") for name, value in peaks.items()),
    )


@rule(
    "room for larger batches",
    needs="`memory.peak` of a device, `allotted.gpu.N.memory`, `data.batch_size`, `model.parameters`",
    threshold=f"less than {ROOM:g} % of a GPU's memory was ever used",
)
def room_for_larger_batches(run: Evidence) -> Found | None:
    peaks = [
        (float(samples.values.max()), device)
        for (_, device), samples in run.of_devices("memory.peak").items()
        if len(samples.values)
    ]
    if not peaks:
        raise NotRecorded("memory.peak of a device")
    peak, device = max(peaks)
    total = run.number(f"allotted.gpu.{device_number(device)}.memory")
    if total is None:
        raise NotRecorded(f"allotted.gpu.{device_number(device)}.memory")
    batch = run.batch_size
    if batch is None:
        raise NotRecorded("the batch size")
    # A device that others use, too, has less to give than its size.
    others = _used_beside_torch(run, device)
    if others is None:
        raise NotRecorded(f"system.gpu.{device_number(device)}.memory_used beside memory.reserved")
    if 100 * (peak + others) / total >= ROOM:
        return None
    kept = _kept_whatever_the_batch(run)
    usable = total * (1 - SPARE) - others
    fits = int(batch * (usable - kept) / (peak - kept)) if peak > kept else 0
    if fits < 2 * batch:
        return None
    return Found(
        f"Torch never used more than {said(peak, 'bytes')} of the {said(total, 'bytes')} of {device}: "
        f"a batch of about {_round(fits)} would still fit (now {batch:.0f}).",
        "Larger batches use the device better; the learning rate may want to grow with them.",
        0.05,
        (
            Fact("most memory that torch had in use", peak, "bytes"),
            Fact("held whatever the batch", kept, "bytes"),
            Fact("used beside torch's allocator", others, "bytes"),
            Fact("memory of the device", total, "bytes"),
            Fact("samples in a batch", batch, "count"),
        ),
    )


def _used_beside_torch(run: Evidence, device: str) -> float | None:
    """The driver's context, and other programs."""
    reserved = [
        samples
        for (_, of), samples in run.of_devices("memory.reserved").items()
        if of == device and len(samples.values)
    ]
    used = run.some(f"system.gpu.{device_number(device)}.memory_used")
    if not reserved or used is None:
        return None
    return max(0.0, float(np.median(used.values)) - float(np.median(reserved[0].values)))


def _kept_whatever_the_batch(run: Evidence) -> float:
    """Bytes of weights and of what Adam keeps for each. At least: gradients and buffers are not counted, so that a batch that fits
    by this fits."""
    kept = 0.0
    for name, size in _TYPE_BYTES.items():
        kept += size * (run.number(f"model.parameters_{name}") or 0.0)
    if "adam" in str(run.params.get("optimizer.class", "")).lower():
        trained = run.number("model.parameters_trainable") or 0.0
        whole = run.number("model.parameters") or 0.0
        kept += 2 * kept * (trained / whole if whole else 0.0)
    return kept


def _round(count: int) -> int:
    """To two digits, downwards."""
    digits = int(10 ** max(0, len(str(count)) - 2))
    return count // digits * digits
