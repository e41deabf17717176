"""Rules about batches that are too small for what a step costs however large its batch is."""

from __future__ import annotations

import numpy as np

from looptap_collector.printable import brief
from looptap_collector.profiles.evidence import Evidence, NotRecorded
from looptap_collector.profiles.rule import Found, rule
from looptap_collector.profiles.samples import mean
from looptap_collector.profiles.shapes import Fact, percent
from looptap_collector.profiles.steps import Steps
from looptap_collector.profiles.waiting import DATA_SHARE

#: Beyond it a batch is not tiny, whatever the step is made of.
SMALL_BATCH = 32
FIXED_SHARE = 0.30
#: A GPU that computes less than this, while the program works on the step all the time, waits for the program.
BUSY_GPU = 50.0
HOST_SHARE = 0.50


@rule(
    "tiny batches",
    needs="`time.optimizer` (of Keras `time.train`), `time.other`, the batch size; on a GPU `system.gpu.N.utilization`",
    threshold=f"batches of at most {SMALL_BATCH}, and {percent(FIXED_SHARE)} of the median step does not depend on them; or a GPU "
    f"that computes less than {BUSY_GPU:g} % of the time, with {percent(HOST_SHARE)} of the step handing work over and less than "
    f"{percent(DATA_SHARE)} waiting for data",
)
def tiny_batches(run: Evidence) -> Found | None:
    ranks = run.timed("train" if run.is_keras else "optimizer")
    if str(run.params.get("model.device", "cpu")).startswith(("cuda", "gpu")):
        return _launching(run, ranks)
    steps = ranks[0]
    batch = run.batch_size
    if batch is None:
        raise NotRecorded("the batch size")
    parts = {name: float(np.median(steps.phases[name])) for name in ("optimizer", "other") if name in steps.phases}
    fixed, step = sum(parts.values()), float(np.median(steps.seconds))
    share = fixed / step if step else 0.0
    if batch > SMALL_BATCH or share < FIXED_SHARE:
        return None
    larger = round(max(8 * batch, 2 * SMALL_BATCH))
    # Of the median step; long ones are long for other reasons.
    saved = share * (1 - batch / larger) * step / float(steps.seconds.mean())
    is_loop = parts.get("other", 0.0) > parts.get("optimizer", 0.0)
    if run.is_keras:
        what, before = "callbacks, and Keras' own loop.", "Look at what the callbacks do for each batch. "
        after = " If the batch has to stay small, compile(…, steps_per_execution=10) runs ten between two rounds of callbacks."
    elif is_loop:
        what = "the loop around the training, and updating the parameters."
        before = "Look at what the loop does in each step beside the training (logging, metrics, waiting). "
        after = ""
    else:
        what, before = "updating the parameters.", ""
        after = " If the batch has to stay small, a fused optimizer helps: AdamW(…, fused=True)."
    return Found(
        f"A step takes {brief(step)} for {batch:.0f} samples, and {percent(share)} of it would be the same for any number of them: "
        + what,
        f"{before}Take larger batches: with {larger}, at least {percent(saved)} of the time is saved (the learning rate may "
        f"want to grow, too).{after}",
        saved,
        (
            Fact("samples in a batch", batch, "count"),
            Fact("does not depend on the batch, of the median step", 100 * share, "percent"),
            *(Fact(f"time.{name}", seconds, "seconds") for name, seconds in parts.items()),
            Fact("median step", step, "seconds"),
        ),
    )


def _launching(run: Evidence, ranks: list[Steps]) -> Found | None:
    busy = {which: mean(samples) for which, samples in run.gpu("utilization").items()}
    (rank, number), least = min(busy.items(), key=lambda item: item[1])
    steps = next((steps for steps in ranks if steps.rank == rank), ranks[0])
    handing = steps.share("forward", "backward", "optimizer", "train")
    waiting = steps.share("data")
    if least >= BUSY_GPU or handing < HOST_SHARE or waiting >= DATA_SHARE:
        return None
    batch = run.batch_size
    facts = [
        Fact(f"mean utilization of GPU {number}", least, "percent"),
        Fact("handing work over, of the step time", 100 * handing, "percent"),
        Fact("waiting for data, of the step time", 100 * waiting, "percent"),
        Fact("median step", float(np.median(steps.seconds)), "seconds"),
    ]
    if batch is not None:
        facts.append(Fact("samples in a batch", batch, "count"))
    return Found(
        f"GPU {number} computes {least:.0f} % of the time, and in most of the rest it waits for Python to hand over more work.",
        "Give it more at once: a larger batch; or hand over less often: "
        + (
            "compile(…, steps_per_execution=10, jit_compile=True)."
            if run.is_keras
            else "torch.compile(model, mode='reduce-overhead') (CUDA graphs), a fused optimizer, no .item() or print in each step."
        ),
        handing - least / 100,
        tuple(facts),
    )
