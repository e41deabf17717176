"""The rule about memory that grows and grows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from looptap_collector.backend import History
from looptap_collector.printable import took
from looptap_collector.profiles.evidence import MIN_STEPS, Evidence, NotRecorded, device_number
from looptap_collector.profiles.rule import Found, rule
from looptap_collector.profiles.shapes import Fact, percent, said
from looptap_collector.profiles.trends import Slope, slope

#: The first part of a training allocates, caches and starts workers.
WARM_UP = 0.25
MIN_CREEP_SAMPLES = 12
#: Each half of what is looked at, and the least in its last third over the least in the first, grow by this much of the whole's
#: pace at least: what fills up and stays is no creep, nor is what is let go again.
STEADY = 0.5
#: What the memory has to have grown by, at the least, in what was looked at.
CREEP_SHARE = 0.03
CREEP_BYTES = 16 << 20
_HOUR, _DAY = 3600.0, 86_400.0


class Creep(NamedTuple):
    where: str
    what: str
    growth: Slope
    seconds: float
    now: float
    #: Left until the limit, in bytes; None where the limit is not known.
    left: float | None


@rule(
    "memory creep",
    needs="`system.process.memory_unique` or `system.process.memory`; `memory.allocated` of a device",
    threshold=f"after the first {percent(WARM_UP)} of the training it grows in both halves of the rest, its floor "
    f"as well, by {percent(STEADY)} of the whole's pace or more; by {percent(CREEP_SHARE)} and {said(CREEP_BYTES, 'bytes')} "
    "at the least (by the lower end of the 95 % interval of the slope)",
)
def memory_creep(run: Evidence) -> Found | None:
    found = [creep for creep in _creeps(run) if creep is not None]
    if not found:
        return None
    worst = min(found, key=_seconds_left)
    growth, left = worst.growth, _seconds_left(worst)
    facts = [
        Fact("growth", growth.middle * _HOUR, "bytes/h"),
        Fact("at least (95 %)", growth.low * _HOUR, "bytes/h"),
        Fact("at most (95 %)", growth.high * _HOUR, "bytes/h"),
        Fact("looked at", worst.seconds, "seconds"),
        Fact("in use at the end", worst.now, "bytes"),
    ]
    until = ""
    if worst.left is not None:
        facts.append(Fact("left until the limit", worst.left, "bytes"))
        until = f" At this rate the rest is used up in {took(left)}."
    return Found(
        f"The memory of {worst.where} grows steadily, by {said(growth.middle * _HOUR, 'bytes/h')}.{until}",
        worst.what,
        0.95 if left < _HOUR else 0.6 if left < _DAY else 0.2,
        tuple(facts),
    )


def _seconds_left(creep: Creep) -> float:
    return float("inf") if creep.left is None else max(creep.left, 0.0) / creep.growth.middle


def _creeps(run: Evidence) -> Iterator[Creep | None]:
    """What grows; None for each that was looked at and does not. Raises :class:`NotRecorded` where nothing was."""
    devices = {
        which: samples
        for which, samples in run.of_devices("memory.allocated").items()
        if len(samples.values) >= MIN_CREEP_SAMPLES
    }
    try:
        processes = run.samples("system.process.memory_unique", MIN_CREEP_SAMPLES)
    except NotRecorded:
        try:
            processes = run.samples("system.process.memory", MIN_CREEP_SAMPLES)
        except NotRecorded:
            if not devices:
                raise
            processes = {}
    for rank, samples in processes.items():
        if _is_cache(run, rank, samples):
            yield None
            continue
        of = f"rank {rank}" if len(processes) > 1 else "the program"
        advice = (
            "Something is kept that each step adds to: losses or outputs with the graph behind them (keep loss.item(), and compute "
            "what is only watched under torch.no_grad()), a list or a cache. In data-loader workers, Python objects in a Dataset "
            "do it: use arrays."
        )
        yield creep_of(_by_steps(run, rank, samples), of, advice, _left_on_host(run, rank))
    for (rank, device), samples in devices.items():
        advice = (
            "Tensors are kept from step to step on the device, often with the graph behind them: keep loss.detach(), not loss, and "
            "compute what is only watched under torch.no_grad(); carry hidden states on with detach()."
        )
        left = _left_on_device(run, device, samples)
        yield creep_of(_by_steps(run, rank, samples), f"torch on {device}", advice, left)


def creep_of(samples: History, where: str, what: str, left: float | None) -> Creep | None:
    """None for memory that does not grow, or not steadily."""
    seconds = (samples.times_ns - samples.times_ns[0]) / 1e9
    kept = seconds >= WARM_UP * seconds[-1]
    seconds, values = seconds[kept], samples.values[kept]
    middle = len(values) // 2
    whole = slope(seconds, values)
    halves = [slope(seconds[:middle], values[:middle]), slope(seconds[middle:], values[middle:])]
    if whole is None or whole.low <= 0:
        return None
    if any(half is None or half.middle < STEADY * whole.middle for half in halves):
        return None
    span = float(seconds[-1] - seconds[0])
    # What is kept for an epoch and then let go has steep slopes, but always comes back to its floor.
    third = len(values) // 3
    if values[-third:].min() - values[:third].min() < STEADY * whole.middle * span * 2 / 3:
        return None
    if whole.low * span < max(CREEP_BYTES, CREEP_SHARE * float(values[0])):
        return None
    return Creep(where, what, whole, span, float(values[-1]), left)


def _by_steps(run: Evidence, rank: int, samples: History) -> History:
    """At times of a clock that runs as the steps do, as long in all: what each step adds to grows steadily on it, however the
    training was slowed down or held up meanwhile."""
    steps = next((steps for steps in run.steps if steps.rank == rank and len(steps) >= MIN_STEPS), None)
    if steps is None or (np.diff(steps.times_ns) < 0).any():  # a resumed one that has repeated some
        return samples
    done = np.interp(samples.times_ns, steps.times_ns, steps.numbers)
    if done[-1] <= done[0]:
        return samples
    first, last = int(samples.times_ns[0]), int(samples.times_ns[-1])
    clock = (done - done[0]) / (done[-1] - done[0]) * (last - first)
    return History(samples.steps, first + clock.astype(np.int64), samples.values)


def _is_cache(run: Evidence, rank: int, samples: History) -> bool:
    """Whether most of what grows is files that the program has mapped: they are memory of the process, and the kernel takes them
    back when others need it."""
    mapped = run.some("system.process.memory_mapped", rank)
    if mapped is None:
        return False
    return _pace(mapped) >= STEADY * _pace(samples) > 0


def _pace(samples: History) -> float:
    """Bytes a second from the first to the last sample. Of memory that is asked for every few seconds a short run has few."""
    seconds = float(samples.times_ns[-1] - samples.times_ns[0]) / 1e9
    return float(samples.values[-1] - samples.values[0]) / seconds if seconds else 0.0


def _left_on_host(run: Evidence, rank: int) -> float | None:
    """Up to the limit of the container, or what the machine has to give, whichever is nearer."""
    limit, used = run.number("allotted.memory"), run.some("system.container.memory", rank)
    available = run.some("system.memory.available", rank)
    left = [limit - float(used.values[-1])] if limit is not None and used is not None else []
    left += [float(available.values[-1])] if available is not None else []
    return min(left, default=None)


def _left_on_device(run: Evidence, device: str, allocated: History) -> float | None:
    total = run.number(f"allotted.gpu.{device_number(device)}.memory")
    return total - float(allocated.values[-1]) if total is not None else None
