"""Rules about the machine and the container that the training ran in."""

from __future__ import annotations

from looptap_collector.profiles.evidence import Evidence
from looptap_collector.profiles.rule import Found, rule
from looptap_collector.profiles.samples import mean, share_above
from looptap_collector.profiles.shapes import Fact, percent, said

#: Percent of the time.
THROTTLED = 5.0
#: Bytes a second; less is the system tidying up.
SWAP_RATE = 1 << 20
SWAPPING_SHARE = 0.05


@rule(
    "CPU throttled",
    needs="`system.container.cpu_throttled`",
    threshold=f"{THROTTLED:g} % of the time",
)
def cpu_throttled(run: Evidence) -> Found | None:
    throttled = {rank: mean(samples) for rank, samples in run.samples("system.container.cpu_throttled").items()}
    rank, worst = max(throttled.items(), key=lambda item: item[1])
    if worst < THROTTLED:
        return None
    facts = [Fact("held back, of the time", worst, "percent")]
    quota = run.number("allotted.cpu_quota", "allotted.cpus")
    advice = "Ask for a larger CPU quota, or use fewer threads and workers"
    if quota is not None:
        facts.append(Fact("CPUs that the quota allows", quota, "count"))
        advice += f": torch.set_num_threads({max(1, int(quota))}), and with workers less"
    threads = run.number("torch.threads")
    if threads is not None:
        facts.append(Fact("torch.threads", threads, "count"))
    if (used := run.some("system.container.cpu", rank)) is not None:
        facts.append(Fact("mean use of the quota", mean(used), "percent"))
    return Found(
        f"The container had used up its CPU quota and stood still {worst:.0f} % of the time.",
        f"{advice}.",
        worst / 100,
        tuple(facts),
    )


@rule(
    "swapping",
    needs="`system.swap.in_rate`, `system.swap.out_rate`",
    threshold=f"more than {said(SWAP_RATE, 'bytes/s')} read from swap in {percent(SWAPPING_SHARE)} of the time",
)
def swapping(run: Evidence) -> Found | None:
    # What is written to swap may never be wanted again; what is read from it somebody waits for.
    shares = {rank: share_above(samples, SWAP_RATE) for rank, samples in run.samples("system.swap.in_rate").items()}
    rank, worst = max(shares.items(), key=lambda item: item[1])
    if worst < SWAPPING_SHARE:
        return None
    read = run.samples("system.swap.in_rate")[rank]
    facts = [
        Fact("reading from swap, of the time", 100 * worst, "percent"),
        Fact("mean rate", mean(read), "bytes/s"),
    ]
    for name, key in (
        ("swap in use at most", "system.swap.used"),
        ("swap in use by this run at most", "system.process.memory_swap"),
    ):
        if (used := run.some(key, rank)) is not None:
            facts.append(Fact(name, float(used.values.max()), "bytes"))
    return Found(
        f"Memory was read back from disk in {percent(worst)} of the time: the machine has less of it than is used.",
        "Use less memory (fewer workers, smaller prefetch_factor, no second copy of the data), end other programs, or take a "
        "machine with more of it.",
        worst,
        tuple(facts),
    )
