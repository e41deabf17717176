"""What a compiled loop with a tape pays for being watched: against its off-twin, alternated in fresh processes.

    python benchmarks/tape_loop.py                      # tf.function and XLA, 7 pairs each
    python benchmarks/tape_loop.py --pairs 3 --steps 1000

A step is one call of a function with a ``GradientTape`` and Adam, of about 1 ms, that returns its loss; the twin differs in one
line, ``looptap.autolog()``. Added time of a pair is the difference of the two processes' medians; the table gives the median over
the pairs.
Both must end with the same weights, to the last bit.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
#: The first steps warm caches and allocators up, with and without us.
WARM_UP = 200
#: On two cores a step that uses both waits for whatever else runs there, watched or not.
ONE_THREAD = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
#: Steps of one loop before it is the next one's turn.
TURN = 20
MODES = {"graph": None, "xla": True}


def loop(jit_compile: bool | None) -> tuple[Callable[[], Any], Any]:
    """A training step, and the model that it trains."""
    import keras
    import numpy
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    random = numpy.random.default_rng(0)
    inputs = tf.constant(random.normal(size=(64, 64)).astype(numpy.float32))
    labels = tf.constant(random.integers(0, 10, size=64))
    model = keras.Sequential(
        [keras.Input((64,)), *(keras.layers.Dense(256, "relu") for _ in range(3)), keras.layers.Dense(10)]
    )
    optimizer = keras.optimizers.Adam(1e-3)
    optimizer.build(model.trainable_variables)

    @tf.function(jit_compile=jit_compile)
    def step() -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, model(inputs, training=True)))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    return step, model


def watch() -> str:
    """``autolog()`` with a store of its own; returns its folder."""
    import looptap

    folder = tempfile.mkdtemp(prefix="looptap-bench-")
    looptap.autolog(store=os.path.join(folder, "store"), journal=os.path.join(folder, "journal"), quiet=True)
    return os.path.join(folder, "store")


def check(store: str, steps: int) -> None:
    """End the run: every step must have been recorded."""
    import looptap

    looptap.end_run()
    recorded = looptap.get_run("latest", store=store).history("loss")
    assert recorded["step"].tolist() == list(range(steps)), "a step is missing"


def train(is_on: bool, jit_compile: bool | None, steps: int) -> dict[str, Any]:
    """In this process: the durations of the steps, and a checksum of the weights."""
    store = watch() if is_on else ""
    import numpy

    step, model = loop(jit_compile)
    ends = []
    for _ in range(steps):
        step()
        ends.append(time.perf_counter_ns())
    if is_on:
        check(store, steps)
    return {
        "durations_ns": [later - earlier for earlier, later in zip(ends[WARM_UP:], ends[WARM_UP + 1 :], strict=False)],
        "checksum": sum(float(numpy.sum(weights, dtype=numpy.float64)) for weights in model.get_weights()).hex(),
    }


def within(jit_compile: bool | None, steps: int) -> dict[str, float]:
    """In this process: microseconds per step, by group, and what our threads took for each watched step."""
    loops = {group: loop(jit_compile)[0] for group in ("off", "off again")}
    for step in loops.values():
        step()
    store = watch()
    loops["on"] = loop(jit_compile)[0]
    for step in loops.values():
        for _ in range(WARM_UP):
            step()
    threads = {thread.native_id for thread in threading.enumerate() if thread.name.startswith("looptap")}
    began = sum(map(cpu_seconds, threads))
    durations: dict[str, list[float]] = {group: [] for group in loops}
    groups = list(loops)
    for turn in range(steps // TURN):
        for place in range(len(groups)):
            group = groups[(turn + place) % len(groups)]
            step = loops[group]
            step()  # another loop has emptied the caches
            for _ in range(TURN):
                before = time.perf_counter_ns()
                step()
                durations[group].append((time.perf_counter_ns() - before) / 1e3)
    beside = sum(map(cpu_seconds, threads)) - began
    watched = steps // TURN * (TURN + 1)
    check(store, WARM_UP + watched)
    median = {group: statistics.median(values) for group, values in durations.items()}
    return {
        "off_median_us": median["off"],
        "added_median_us": median["on"] - median["off"],
        "ratio": median["on"] / median["off"],
        "again_median_us": median["off again"] - median["off"],
        "beside_us": beside / watched * 1e6,
    }


def cpu_seconds(thread: int | None) -> float:
    """Processor time of a thread of this process so far (Linux)."""
    words = Path(f"/proc/self/task/{thread}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def in_process(*words: str) -> dict[str, Any]:
    environment = {
        **os.environ,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "LOOPTAP_QUIET": "1",
        **ONE_THREAD,
    }
    command = [sys.executable, __file__, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def run(is_on: bool, mode: str, steps: int) -> dict[str, Any]:
    result = in_process("--child", "on" if is_on else "off", "--modes", mode, "--steps", str(steps))
    durations = sorted(result.pop("durations_ns"))
    result["median_us"] = statistics.median(durations) / 1e3
    result["p99_us"] = durations[int(len(durations) * 0.99)] / 1e3
    result["mean_us"] = statistics.fmean(durations) / 1e3
    return result


def compare(mode: str, pairs: int, steps: int) -> dict[str, Any]:
    """Pairs in the order off-on, on-off, off-on, …, so that a drift of the machine hits both alike."""
    rows = []
    for number in range(pairs):
        first = run(number % 2 == 1, mode, steps)
        second = run(number % 2 == 0, mode, steps)
        rows.append((first, second) if number % 2 == 0 else (second, first))
        print(".", end="", flush=True, file=sys.stderr)
    assert len({result["checksum"] for pair in rows for result in pair}) == 1, "weights differ"

    def added(key: str) -> float:
        return statistics.median(on[key] - off[key] for off, on in rows)

    return {
        "mode": mode,
        "pairs": pairs,
        "steps": steps,
        "off_median_us": statistics.median(off["median_us"] for off, _ in rows),
        "added_median_us": added("median_us"),
        "added_p99_us": added("p99_us"),
        "added_mean_us": added("mean_us"),
        "ratio": statistics.median(on["median_us"] / off["median_us"] for off, on in rows),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--modes", nargs="*", default=list(MODES), choices=MODES)
    parser.add_argument("--within", action="store_true")
    parser.add_argument("--child", choices=("on", "off", "within"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    mode = MODES[arguments.modes[0]]
    if arguments.child == "within":
        print(json.dumps(within(mode, arguments.steps)))
        return
    if arguments.child:
        print(json.dumps(train(arguments.child == "on", mode, arguments.steps)))
        return
    rows = []
    if arguments.within:
        print(
            "| step | off | added per step, median | ratio of medians | off again | beside, per step |\n|---|---|---|---|---|---|"
        )
    else:
        print("| step | off | added per step, median | p99 | mean | ratio of medians |\n|---|---|---|---|---|---|")
    for name in arguments.modes:
        if arguments.within:
            row = {"mode": name, **in_process("--child", "within", "--modes", name, "--steps", str(arguments.steps))}
            shown = (
                f"{row['ratio']:.4f} | {row['again_median_us']:+.1f} µs | {row['beside_us']:.1f} µs of processor time |"
            )
        else:
            row = compare(name, arguments.pairs, arguments.steps)
            shown = f"{row['added_p99_us']:+.1f} µs | {row['added_mean_us']:+.1f} µs | {row['ratio']:.4f} |"
        rows.append(row)
        print(f"| {name} | {row['off_median_us']:.0f} µs | {row['added_median_us']:+.1f} µs | {shown}", flush=True)
    result = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "rows": rows,
    }
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / f"tape_loop{'_within' if arguments.within else ''}.json").write_text(
        json.dumps(result, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
