"""Rules about GPUs that do not compute, or not as fast as they could."""

from __future__ import annotations

import numpy as np

from looptap_collector.profiles.evidence import Evidence
from looptap_collector.profiles.rule import Found, rule
from looptap_collector.profiles.samples import mean
from looptap_collector.profiles.shapes import Fact, said

#: Percent of the time in which it computes.
BUSY = 50.0
#: Percent of the time. A GPU at its power limit is one at work; only where it stays there is there something to gain.
POWER = 20.0
HEAT = 5.0
#: Idleness is what one sees of other findings: where one of them explains it, that one comes first.
_SYMPTOM = 0.5
#: What throttling costs where no clocks were recorded.
_UNKNOWN_LOSS = 0.2


@rule(
    "GPU idle",
    needs="`system.gpu.N.utilization`",
    threshold=f"it computes less than {BUSY:g} % of the time",
)
def gpu_idle(run: Evidence) -> Found | None:
    busy = {which: mean(samples) for which, samples in run.gpu("utilization").items()}
    (_, number), least = min(busy.items(), key=lambda item: item[1])
    if least >= BUSY:
        return None
    facts = tuple(
        Fact(f"mean utilization of GPU {gpu}" + (f" (rank {rank})" if rank else ""), value, "percent")
        for (rank, gpu), value in sorted(busy.items())
    )
    if not any(samples.values.any() for (_, gpu), samples in run.gpu("utilization").items() if gpu == number):
        is_on_cpu = run.params.get("model.device") == "cpu"
        return Found(
            f"GPU {number} did nothing at all during the training{'; the model is on the CPU' if is_on_cpu else ''}.",
            "Move the model and each batch there: .to('cuda')."
            if is_on_cpu
            else "Use it (DistributedDataParallel, one process for each GPU), or leave it to others: CUDA_VISIBLE_DEVICES.",
            _SYMPTOM,
            facts,
        )
    return Found(
        f"GPU {number} computed {least:.0f} % of the time, and stood idle in the rest.",
        "See the other findings for what it waits for. If there are none: larger batches, less work between the steps "
        "(logging, .item(), validation), and looptap profile --live for what happens inside of a step.",
        (1 - least / 100) * _SYMPTOM,
        facts,
    )


@rule(
    "GPU power-throttled",
    needs="`system.gpu.N.throttled_power`",
    threshold=f"{POWER:g} % of the time",
)
def gpu_power_throttled(run: Evidence) -> Found | None:
    return _throttled(
        run,
        "throttled_power",
        POWER,
        "at its power limit, and slowed down to stay there",
        "Raise the limit if that is in your hands (nvidia-smi -pl), or accept it: the last watts buy little speed. Lower precision "
        "(bfloat16, TF32) does more for each watt.",
        ("power", "watts"),
    )


@rule(
    "GPU heat-throttled",
    needs="`system.gpu.N.throttled_heat`",
    threshold=f"{HEAT:g} % of the time",
)
def gpu_heat_throttled(run: Evidence) -> Found | None:
    return _throttled(
        run,
        "throttled_heat",
        HEAT,
        "too hot, and slowed down to cool off",
        "Look after its cooling: fans, dust, the air in the rack, hot neighbours. A lower power limit (nvidia-smi -pl) keeps it at "
        "a steady clock.",
        ("temperature", "celsius"),
    )


def _throttled(
    run: Evidence, key: str, threshold: float, what: str, advice: str, also: tuple[str, str]
) -> Found | None:
    shares = {which: 100 * mean(samples) for which, samples in run.gpu(key).items()}
    (rank, number), worst = max(shares.items(), key=lambda item: item[1])
    if worst < threshold:
        return None
    facts = [Fact(f"GPU {number} slowed down, of the time", worst, "percent")]
    loss = _UNKNOWN_LOSS
    clock = run.some(f"system.gpu.{number}.clock_sm", rank)
    if clock is not None and clock.values.max() > 0:
        usual, highest = float(np.median(clock.values)), float(clock.values.max())
        facts += [Fact("median clock", usual, "hertz"), Fact("highest clock", highest, "hertz")]
        loss = 1 - usual / highest
    if (samples := run.some(f"system.gpu.{number}.{also[0]}", rank)) is not None:
        facts.append(Fact(f"highest {also[0]}", float(samples.values.max()), also[1]))
    return Found(
        f"GPU {number} was {what}, in {said(worst, 'percent')} of the time.",
        advice,
        worst / 100 * loss,
        tuple(facts),
    )
