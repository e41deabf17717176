"""What the samples of resources cost: one sample, the share of a core, and the effect on the training.

    python benchmarks/sampler.py                # about three minutes
    python benchmarks/sampler.py --seconds 20   # a shorter look at the training

GPUs are those of the driver in ``tests/agent/resources/nvml.c``: their figures are the cost of asking, without that of a real
driver. The program has four workers, as a data loader makes them.

**One sample**: processor time of the sampler's thread, median over 90 of them, in a fresh process for each number of GPUs.

**The training**: a loop of small steps with one thread for its computations, beside ten samples a second, which is ten times as
often as ever. What is compared lies within a tenth of a second, as the machine is shared: the steps made in the 50 ms from the
beginning of a sample with those in the 50 ms before it. From block to block (five seconds) the sampler has all of its readers
(``on``) or only one that reads nothing (``off``), which shows what the same comparison says of nothing. The means leave out a
tenth at both ends.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
DRIVER = HERE.parent / "tests" / "agent" / "resources" / "nvml.c"
#: Name, settings of the driver, and the goal for one sample in milliseconds.
MACHINES: dict[str, tuple[dict[str, str], float]] = {
    "no GPU": ({"FAKE_NVML_DEVICES": "0"}, 2.0),
    "1 GPU": ({"FAKE_NVML_DEVICES": "1"}, 2.0),
    "8 GPUs": ({"FAKE_NVML_DEVICES": "8"}, 5.0),
    "8 MIG instances": ({"FAKE_NVML_DEVICES": "1", "FAKE_NVML_MIG": "8"}, 5.0),
}
SAMPLES = 100
BLOCK_SECONDS, WINDOW_SECONDS = 5.0, 0.05
GROUPS = ("off", "on")
EFFECT_GOAL = 0.005


def costs() -> list[float]:
    """Processor time of each of the samples, in seconds."""
    from looptap.recorder import Recorder
    from looptap.redaction import Redactor
    from looptap.resources.reader import Subject
    from looptap.resources.sampler import Sampler, Source, discover

    pid = os.getpid()
    subject = Subject.of_this_process(lambda: None, os.getcwd(), lambda message: print(message, file=sys.stderr))
    sampler = Sampler(Recorder(lambda: None, Redactor()), subject)
    sources = [Source(name, load, subject, print) for name, load in discover().items()]
    workers = [subprocess.Popen(["sleep", "600"]) for _ in range(4)]
    found = []
    os.environ["FAKE_NVML_PROCESSES"] = f"{pid}:1000000"
    for source in sources:
        source.open(time.monotonic())
    for number in range(SAMPLES):
        found.append(sampler.sample(sources, number))
        time.sleep(0.02)
    for worker in workers:
        worker.kill()
        worker.wait()
    return found


def steps(seconds: float) -> dict[str, list[float]]:
    """For each sample, by group: the share of the steps that were not made in the time of it."""
    import numpy as np
    import torch

    import looptap
    from looptap.resources import sampler as sampling
    from looptap.resources.reader import Reader, Subject
    from looptap.session import SESSION

    torch.set_num_threads(1)
    # However much a sample costs here: the question is what ten a second do.
    sampling.SHARE = 1.0
    looptap.autolog(quiet=True, resources=False)
    model = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    features, targets = torch.randn(64, 64), torch.randn(64, 10)
    began: list[float] = []

    class Marks(Reader):
        def read(self, now: float) -> dict[str, float]:
            began.append(now)
            return {}

    def block() -> list[float]:
        ends = [time.monotonic()]
        while ends[-1] < ends[0] + BLOCK_SECONDS:
            optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(model(features), targets)
            loss.backward()
            optimizer.step()
            ends.append(time.monotonic())
        return ends

    subject = Subject.of_this_process(lambda: None, os.getcwd(), print)
    found: dict[str, list[float]] = {group: [] for group in GROUPS}
    block()
    record = SESSION.recorder
    for number in range(2 * round(seconds / BLOCK_SECONDS / 2)):
        group = GROUPS[number % 2]
        readers = {"marks": lambda: Marks, **(sampling.discover() if group == "on" else {})}
        began.clear()
        sampler = sampling.Sampler(record, subject, 0.1, lambda readers=readers: readers)  # type: ignore[misc]
        sampler.start()
        ends = np.array(block())
        sampler.stop()
        # Whole samples, and none of the first second, in which the readers are opened.
        at = np.array([mark for mark in began if ends[0] + 1 < mark < ends[-1] - WINDOW_SECONDS])
        before, then, after = (
            np.interp(at + shift, ends, np.arange(len(ends))) for shift in (-WINDOW_SECONDS, 0, WINDOW_SECONDS)
        )
        # Half of the time is beside no sample.
        found[group] += ((2 * then - before - after) / 2 / np.mean(then - before)).tolist()
    return found


def mean(shares: list[float]) -> tuple[float, float]:
    """Without a tenth at both ends; and its standard error."""
    cut = len(shares) // 10
    kept = sorted(shares)[cut : len(shares) - cut]
    return statistics.fmean(kept), statistics.stdev(kept) / len(kept) ** 0.5


def compiled(folder: str) -> str:
    library = Path(folder) / "libnvidia-ml.so.1"
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", library, DRIVER], check=True)
    return folder


def in_fresh_process(*words: str, **environment: str) -> str:
    command = [sys.executable, __file__, *words]
    with tempfile.TemporaryDirectory() as state:
        known = {**os.environ, "XDG_STATE_HOME": state, "LOOPTAP_STORE": f"{state}/store", **environment}
        done = subprocess.run(command, capture_output=True, text=True, env=known)
    if done.returncode:
        raise SystemExit(f"{words} failed:\n{done.stderr[-2000:]}")
    return done.stdout.strip().splitlines()[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=150.0, help="of the loop")
    parser.add_argument("--one", choices=("costs", "steps"), help="in this process; prints JSON")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(costs() if arguments.one == "costs" else steps(arguments.seconds)))
        return
    report: dict[str, object] = {}
    print("| machine | one sample, median | p95 | share of a core, once a second | goal |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        library = compiled(folder)
        for name, (settings, goal) in MACHINES.items():
            taken = json.loads(in_fresh_process("--one", "costs", LD_LIBRARY_PATH=library, **settings))[10:]
            median, p95 = statistics.median(taken) * 1e3, statistics.quantiles(taken, n=20)[-1] * 1e3
            report[name] = {"median_ms": median, "p95_ms": p95, "goal_ms": goal}
            print(f"| {name} | {median:.2f} ms | {p95:.2f} ms | {median / 10:.2f} % | ≤ {goal:g} ms |", flush=True)
        machine = MACHINES["1 GPU"][0]
        words = ("--one", "steps", "--seconds", str(arguments.seconds))
        found = json.loads(in_fresh_process(*words, LD_LIBRARY_PATH=library, **machine))
    print("\n| ten samples a second | steps lost, mean | standard error | samples | goal |\n|---|---|---|---|---|")
    (with_it, error), (without, other) = mean(found["on"]), mean(found["off"])
    rows = {
        "on": (with_it, error, len(found["on"]), ""),
        "off": (without, other, len(found["off"]), ""),
        "difference": (with_it - without, math.hypot(error, other), len(found["on"]), f"≤ {100 * EFFECT_GOAL:g} %"),
    }
    for name, (lost, error, count, goal_text) in rows.items():
        report[name] = {"lost": lost, "standard_error": error, "samples": count}
        print(f"| {name} | {100 * lost:+.2f} % | {100 * error:.2f} % | {count} | {goal_text} |")
    result = HERE / "results" / "sampler.json"
    result.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
