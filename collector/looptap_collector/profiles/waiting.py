"""Rules about steps that wait: for data, for a copy to the device, for a checkpoint, for another rank."""

from __future__ import annotations

import math

import numpy as np

from looptap_collector import slowest
from looptap_collector.printable import brief
from looptap_collector.profiles.evidence import Evidence, NotRecorded
from looptap_collector.profiles.rule import Found, rule
from looptap_collector.profiles.samples import mean
from looptap_collector.profiles.shapes import Fact, percent
from looptap_collector.profiles.steps import Steps

DATA_SHARE = 0.20
#: Where most of the waiting is in so few steps, batches are made quickly enough, but not always.
FEW, MOSTLY = 0.05, 0.5
CHECKPOINT_SHARE = 0.05
#: A step is stalled by a checkpoint when it takes so many times the median.
STALLED = 2.0
SLOW_RANK_SHARE = 0.05
SLOW_RANK_STEPS = 0.50
TRANSFER_SHARE = 0.15
#: Half of what a slot of PCIe 3.0 with 16 lanes carries in practice.
BUSY_PCIE = 6e9
#: A device that computes this much of the time does not wait for its data.
BUSY_GPU = 80.0


def _who(steps: Steps, of: list[Steps]) -> str:
    return f" (rank {steps.rank}, the worst)" if len(of) > 1 else ""


@rule(
    "waiting for data",
    needs="`time.data`, `step_time`",
    threshold=f"{percent(DATA_SHARE)} of the step time",
)
def waiting_for_data(run: Evidence) -> Found | None:
    ranks = run.timed("data")
    worst = max(ranks, key=lambda steps: steps.share("data"))
    share = worst.share("data")
    if share < DATA_SHARE or _without_the_longest(worst) < DATA_SHARE:
        return None
    wait, step = worst.mean("data"), float(worst.seconds.mean())
    facts = [
        Fact("waiting for data, of the step time", 100 * share, "percent"),
        Fact("mean wait for a batch", wait, "seconds"),
        Fact("mean rest of the step", step - wait, "seconds"),
    ]
    workers = run.number("data.num_workers")
    if workers is not None:
        facts.append(Fact("data.num_workers", workers, "count"))
    cpus = run.number("allotted.cpus")
    if cpus is not None:
        facts.append(Fact("allotted.cpus", cpus, "count"))
    in_few = _in_few_steps(worst)
    advice = _KERAS if run.is_keras else _more_workers(workers, wait, step, cpus)
    if in_few >= MOSTLY and workers and run.params.get("data.persistent_workers") is not True:
        facts.append(Fact(f"of the waiting, in the longest {percent(FEW)} of the steps", 100 * in_few, "percent"))
        advice = (
            f"{percent(in_few)} of it is in a few steps, as where workers are started for each pass over the data: "
            "DataLoader(…, persistent_workers=True) keeps them, and a larger prefetch_factor bridges pauses."
        )
    return Found(
        f"{percent(share)} of the time of the steps went by waiting for {'data' if run.is_keras else 'the DataLoader'}: "
        f"{brief(wait)} of {brief(step)}"
        f"{_who(worst, ranks)}.",
        advice,
        share,
        tuple(facts),
    )


def _without_the_longest(steps: Steps) -> float:
    """The share of waiting but for the longest wait: that workers are started once does not hold a training back."""
    waits = steps.phases["data"]
    longest = float(waits.max())
    rest = float(steps.seconds.sum()) - longest
    return (float(waits.sum()) - longest) / rest if rest > 0 else 0.0


def _in_few_steps(steps: Steps) -> float:
    """The share of the waiting that is in those steps that waited longest."""
    waits = np.sort(steps.phases["data"])
    few = math.ceil(FEW * len(waits))
    return float(waits[-few:].sum() / waits.sum())


def workers_to_cover(workers: float, wait: float, step: float) -> int:
    """How many workers would make batches as fast as the rest of the step takes them: without workers the wait is what a batch
    takes to make; with workers that cannot follow, each makes one in as many steps as there are workers."""
    rest = max(step - wait, 1e-9)
    return math.ceil(round((workers * step if workers else wait) / rest, 3))


#: So many workers would be a machine of their own.
_TOO_MANY = 32
#: Above, the number says nothing but that the rest of the step is short.
_COUNTABLE = 1000


_CHEAPER = (
    "make a batch cheaper: decode less, resize beforehand, cache what is read again, keep the files on a faster disk"
)
_KERAS = (
    "Make batches beside the training: keras.utils.PyDataset with workers=… and use_multiprocessing=True in the place of a "
    "generator; in tf.data .map(…, num_parallel_calls=tf.data.AUTOTUNE) and .prefetch(tf.data.AUTOTUNE). Or "
    f"{_CHEAPER}."
)


def _more_workers(workers: float | None, wait: float, step: float, cpus: float | None) -> str:
    cheaper = _CHEAPER
    if workers is None:
        return f"Load in the background, or {cheaper}."
    needed = max(workers_to_cover(workers, wait, step), int(workers) + 1)
    if needed > _TOO_MANY:
        told = f"{needed}" if needed <= _COUNTABLE else f"more than {_COUNTABLE}"
        return f"It would take {told} workers to cover it; {cheaper}."
    told = f"DataLoader(…, num_workers={needed}) should cover it (now {workers:.0f})"
    if cpus is not None and needed > cpus:
        told += (
            f", if batches wait for a disk or a network; for computing, this run has {cpus:g} CPUs only, so {cheaper}"
        )
    else:
        told += f"; or {cheaper}"
    return f"{told}."


@rule(
    "host-to-device bound",
    needs="`time.transfer`; or `system.gpu.N.pcie_received_rate` with `system.gpu.N.utilization`",
    threshold=f"{percent(TRANSFER_SHARE)} of the step time; or {BUSY_PCIE / 1e9:g} GB/s on average to a GPU that computes "
    f"less than {BUSY_GPU:g} % of the time",
)
def host_to_device_bound(run: Evidence) -> Found | None:
    pinned = run.params.get("data.pin_memory")
    advice = (
        "Copy beside the computation: DataLoader(…, pin_memory=True) and .to(device, non_blocking=True)"
        if pinned is not True
        else "Copy less: send what the sensor gave (uint8, not float32), and convert and augment on the device"
    ) + "; fewer, larger copies are quicker than many small ones."
    try:
        ranks = run.timed("transfer")
    except NotRecorded:
        return _by_the_bus(run, advice)
    worst = max(ranks, key=lambda steps: steps.share("transfer"))
    share = worst.share("transfer")
    if share < TRANSFER_SHARE:
        return None
    return Found(
        f"{percent(share)} of the time of the steps went by copying batches to the device{_who(worst, ranks)}.",
        advice,
        share,
        (
            Fact("copying, of the step time", 100 * share, "percent"),
            Fact("mean copy of a step", worst.mean("transfer"), "seconds"),
        ),
    )


def _by_the_bus(run: Evidence, advice: str) -> Found | None:
    rates = {which: mean(samples) for which, samples in run.gpu("pcie_received_rate").items()}
    busy = {which: mean(samples) for which, samples in run.gpu("utilization").items()}
    bound = {which: rate for which, rate in rates.items() if rate >= BUSY_PCIE and busy.get(which, 100.0) < BUSY_GPU}
    if not bound:
        return None
    worst = max(bound, key=lambda which: bound[which])
    return Found(
        f"GPU {worst[1]} takes in {bound[worst] / 1e9:.1f} GB a second over PCIe, all the time, and computes in "
        f"{busy[worst]:.0f} % of it.",
        advice,
        # How much of the idle time is due to copies nobody can tell from here.
        (100 - busy[worst]) / 200,
        (
            Fact(f"mean PCIe traffic into GPU {worst[1]}", bound[worst], "bytes/s"),
            Fact(f"mean utilization of GPU {worst[1]}", busy[worst], "percent"),
        ),
    )


@rule(
    "checkpoint stalls",
    needs="`step_time`, the steps of the files that the run wrote",
    threshold=f"{percent(CHECKPOINT_SHARE)} of the step time goes to steps beside a checkpoint that take {STALLED:g} times the "
    "median or more, beyond the median",
)
def checkpoint_stalls(run: Evidence) -> Found | None:
    (steps, *_) = run.timed()
    saved = {
        item.step for item in run.backend.artifacts(run.run.run) if item.role == "output" and item.step is not None
    }
    if not saved:
        raise NotRecorded("a checkpoint with its step")
    validated = _steps_of_validations(run)
    # What is saved behind a step makes the next one long; what is saved within it (by a framework) this one.
    beside = {step + more for step in saved for more in (0, 1)}
    alone = beside - validated - {step + 1 for step in validated}
    if not alone:
        raise NotRecorded("a checkpoint without a validation beside it, from whose time its own could be told")
    # Where a checkpoint ends an epoch, the step behind it also waits for workers that are started.
    seconds = steps.seconds - steps.phases.get("data", np.zeros(len(steps)))
    median = float(np.median(seconds))
    is_stalled = np.isin(steps.numbers, sorted(alone)) & (seconds >= STALLED * median)
    lost = float((seconds[is_stalled] - median).sum())
    share = lost / float(steps.seconds.sum())
    if share < CHECKPOINT_SHARE:
        return None
    count = int(is_stalled.sum())
    return Found(
        f"Writing checkpoints holds the training up: {count} of them took {brief(lost / count)} each, "
        f"{percent(share)} of the time.",
        "Save less often, or in the background (torch.distributed.checkpoint.async_save, or a copy to the CPU that a thread "
        "writes); keep optimizer state out of files that are only for use.",
        share,
        (
            Fact("stalls beside checkpoints, of the step time", 100 * share, "percent"),
            Fact("checkpoints that stalled a step", count, "count"),
            Fact("mean stall", lost / count, "seconds"),
            Fact("median step without waiting for data", median, "seconds"),
        ),
    )


def _steps_of_validations(run: Evidence) -> set[int]:
    validated: set[int] = set()
    for row in run.series:
        if row.key.startswith(("validation/", "test/", "val_")):
            validated.update(run.backend.history(row.run, row.key, row.context).steps.tolist())
    return validated


@rule(
    "slow rank",
    needs="`step_time` or `time.…` of several ranks",
    threshold=f"one rank is the slowest in {percent(SLOW_RANK_STEPS)} of the steps, and {percent(SLOW_RANK_SHARE)} of the time "
    "is waiting for it",
)
def slow_rank(run: Evidence) -> Found | None:
    sources = slowest.Sources(run.series)
    if len(run.steps) < 2 or not sources.tell:
        raise NotRecorded("the times of several ranks")
    ranks = run.timed()
    # Of a long run the begin: to compare ranks takes each of their steps.
    first = int(ranks[0].numbers[0])
    bounds = (first, first + max(len(steps) for steps in ranks) - 1)
    who, lags = (
        slowest.history(run.backend, run.run.run, key, steps=bounds, sources=sources).values for key in slowest.KEYS
    )
    if not len(who):
        raise NotRecorded("steps that several ranks have")
    numbers, counts = np.unique(who, return_counts=True)
    rank, often = int(numbers[counts.argmax()]), float(counts.max()) / len(who)
    lag = float(lags[who == rank].mean())
    step = max(float(steps.seconds.mean()) for steps in ranks)
    share = lag * often / step if step else 0.0
    if often < SLOW_RANK_STEPS or share < SLOW_RANK_SHARE:
        return None
    return Found(
        f"All others wait for rank {rank}: it is the slowest in {percent(often)} of the steps, {brief(lag)} behind the median.",
        f"Look at what is different about rank {rank}: longer or larger samples in its part of the data, another GPU, a busy or a "
        "hot host (its own metrics have the context rank).",
        share,
        (
            Fact("waiting for it, of the time", 100 * share, "percent"),
            Fact("the slowest, of the steps", 100 * often, "percent"),
            Fact("mean lag in these", lag, "seconds"),
            Fact("mean step", step, "seconds"),
        ),
    )
