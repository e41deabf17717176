"""What ``looptap profile`` takes on a long run: a million points in 50 series, in the embedded store.

    python benchmarks/profiles.py

The run has 20,000 steps with the times of their parts, and the samples of a machine with one GPU, as an agent would have delivered
them. **In Python** is the answer of an open store, asked 15 times; **the command** is a fresh process, five times, of which
``looptap --version`` tells what the start of any command takes.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from looptap.events import RunEnded, SeriesPoints
from looptap.resources.sampler import discover
from looptap_collector.backends.sqlite import SqliteBackend
from looptap_collector.profiles.profile import profile_of
from looptap_collector.testing.batches import START_NS, Journal, started, write

RESULTS = Path(__file__).parent / "results" / "profiles.json"
STEPS, SERIES = 20_000, 50
#: Of a step of 50 ms.
PARTS = {"data": 0.4, "forward": 0.2, "backward": 0.3, "optimizer": 0.08, "other": 0.02}
STEP_SECONDS = 0.05


def series() -> dict[str, np.ndarray]:
    """Values by key: those of the training, and of what is sampled as many as it takes."""
    random = np.random.default_rng(0)
    noise = random.lognormal(0, 0.1, STEPS)
    found = {f"time.{part}": STEP_SECONDS * share * noise for part, share in PARTS.items()}
    found |= {"step_time": STEP_SECONDS * noise, "loss": noise, "lr": np.full(STEPS, 1e-3)}
    sampled = {metric.name.replace(".N.", ".0.") for load in discover().values() for metric in load().metrics}
    for key in sorted(sampled)[: SERIES - len(found)]:
        found[key] = 50 + 10 * random.random(STEPS)
    assert len(found) == SERIES
    return found


def fill(path: Path) -> None:
    backend, journal = SqliteBackend(path), Journal("benchmark")
    write(backend, journal.batch(started()))
    steps = np.arange(STEPS)
    times_ns = START_NS + (steps * STEP_SECONDS * 1e9).astype("<i8")
    for key, values in series().items():
        columns = (steps.astype("<i8"), times_ns, values.astype("<f8"))
        write(backend, journal.batch(series=[SeriesPoints(key, {}, *(column.tobytes() for column in columns))]))
    write(backend, journal.batch(RunEnded("finished", int(times_ns[-1]))))
    backend.close()


def seconds(work: Callable[[], object], times: int) -> list[float]:
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return taken


def command(*words: str) -> Callable[[], object]:
    known = {**os.environ, "COLUMNS": "100"}
    return lambda: subprocess.run([sys.executable, "-m", "looptap", *words], env=known, capture_output=True, check=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "looptap.db"
        fill(path)
        backend = SqliteBackend(path)
        (row,) = backend.runs()
        found = {
            "in Python": seconds(lambda: profile_of(backend, row), 15),
            "the command": seconds(command("profile", row.run, "--store", folder), 5),
            "looptap --version": seconds(command("--version"), 5),
        }
        backend.close()
    print(f"{STEPS * SERIES:,} points in {SERIES} series\n\n| what | median | worst |\n|---|---|---|")
    for name, taken in found.items():
        print(f"| {name} | {statistics.median(taken) * 1e3:.0f} ms | {max(taken) * 1e3:.0f} ms |")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({name: statistics.median(taken) for name, taken in found.items()}, indent=2) + "\n")


if __name__ == "__main__":
    main()
