"""What the embedded store can take and give back: ``python benchmarks/store.py``.

Batches have the shapes that the sender makes (at most 1 MiB of arrays) over series as training makes them:
consecutive steps, about a millisecond apart with jitter, losses that were float32. Writing includes
everything from the decoded batch to the commit. Bytes per point are those of the whole file after the end of
the run, indexes included.
"""

from __future__ import annotations

import json
import platform
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from looptap.events import Batch, RunEnded, RunStarted, SeriesPoints
from looptap_collector.backends.sqlite import SqliteBackend
from looptap_collector.pipeline import Pipeline
from looptap_collector.thinning import thin

RESULTS = Path(__file__).parent / "results" / "store.json"
#: (series, points of each per batch, batches)
SHAPES = (
    (1, 43_000, 60),
    (20, 2_000, 60),
    (20, 200, 400),
    (200, 200, 60),
    (4, 1_000, 500),
)
LONG = 1_000_000


def main() -> None:
    rows = [measure_writing(*shape) for shape in SHAPES]
    print(f"{'series':>7} {'points each':>12} {'batches':>8} {'points/s':>12} {'bytes/point':>12}")
    for row in rows:
        print(
            f"{row['series']:>7,} {row['points_each']:>12,} {row['batches']:>8,} "
            f"{row['points_per_s']:>12,.0f} {row['bytes_per_point']:>12.1f}"
        )
    reading = [measure_reading(points) for points in (2_000, 43_000)]
    for row in reading:
        print(
            f"read {LONG:,} points in chunks of about {row['points_per_chunk']:,}: {row['read_ms']:.0f} ms, "
            f"thinned to {row['thinned_to']:,}: {row['thin_ms']:.0f} ms"
        )
    RESULTS.parent.mkdir(exist_ok=True)
    machine = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "sqlite": sqlite3.sqlite_version,
    }
    RESULTS.write_text(json.dumps({"machine": machine, "writing": rows, "reading": reading}, indent=2) + "\n")


def measure_writing(series: int, points_each: int, batches: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "looptap.db"
        made = list(training_batches(series, points_each, batches))
        backend = SqliteBackend(path)
        pipeline = Pipeline(backend)
        began = time.perf_counter()
        for batch in made:
            pipeline.accept(batch)
        seconds = time.perf_counter() - began
        end_run(pipeline, made[-1].next)
        backend.close()
        points = series * points_each * batches
        return {
            "series": series,
            "points_each": points_each,
            "batches": batches,
            "points_per_s": points / seconds,
            "bytes_per_point": path.stat().st_size / points,
        }


def measure_reading(points_each: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "looptap.db"
        backend = SqliteBackend(path)
        pipeline = Pipeline(backend)
        batches = -(-LONG // points_each)
        for batch in training_batches(1, points_each, batches):
            pipeline.accept(batch)
        times = []
        for _ in range(5):
            began = time.perf_counter()
            history = backend.history("benchmark", "metric_0", {})
            read = time.perf_counter()
            thinned = thin(history)
            times.append((read - began, time.perf_counter() - read))
        backend.close()
        read_s, thin_s = np.median(np.array(times), axis=0)
        return {
            "points": len(history.steps),
            "points_per_chunk": points_each,
            "read_ms": float(read_s) * 1e3,
            "thin_ms": float(thin_s) * 1e3,
            "thinned_to": len(thinned.steps),
        }


def training_batches(series: int, points_each: int, batches: int, *, are_floats: bool = True) -> Iterator[Batch]:
    """The batches of one run, its start in the first. Values were float32, or (not ``are_floats``) have noise in every bit."""
    random = np.random.default_rng(0)
    start_ns = 1_800_000_000_000_000_000
    number = 1
    for batch in range(batches):
        steps = np.arange(batch * points_each, (batch + 1) * points_each)
        times_ns = start_ns + np.cumsum(random.normal(1e6, 5e4, points_each)).astype(np.int64)
        start_ns = int(times_ns[-1])
        columns = tuple(
            SeriesPoints(
                f"metric_{index}", {}, steps.tobytes(), times_ns.tobytes(), losses(random, steps, are_floats).tobytes()
            )
            for index in range(series)
        )
        started = RunStarted("benchmark", "benchmark", "benchmarks", start_ns)
        first = 0 if batch == 0 else number
        number += series * points_each
        yield Batch("benchmark", "journal", first, number, columns, (started,) * (batch == 0), heartbeat_ns=start_ns)


def losses(random: np.random.Generator, steps: npt.NDArray[np.int64], are_floats: bool) -> npt.NDArray[np.float64]:
    noisy: npt.NDArray[np.float64] = 2.3 * np.exp(-steps / 3e5) + random.normal(0, 0.05, len(steps))
    return noisy.astype(np.float32).astype(np.float64) if are_floats else noisy


def end_run(pipeline: Pipeline, position: int) -> None:
    pipeline.accept(Batch("benchmark", "journal", position, position + 1, (), (RunEnded("finished", 1),)))


if __name__ == "__main__":
    main()
