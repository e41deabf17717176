"""What a model that is served for a year leaves in a store, before and after its old windows are merged, and how long a report of
its last 90 days takes: ``python benchmarks/serving_year.py``.

One replica with one endpoint that is asked ten times a second, day and night; a window each ten seconds, made of 200 different
ones. Everything in SQLite, as a program with an embedded store has it. A year takes hours and 8 GB; ``--days 16`` some minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from looptap.events import Batch, RunStarted, Window
from looptap.sketches.distribution import Distribution
from looptap.sketches.histogram import Histogram
from looptap_collector.backend import Arrival
from looptap_collector.backends.sqlite import SqliteBackend
from looptap_collector.embedded import DATABASE

RESULTS = Path(__file__).parent / "results" / "serving_year.json"
REQUESTS = 100
DIFFERENT = 200
WINDOW_NS = 10 * 10**9
DAY_WINDOWS = 8_640
AT_ONCE = 2_000


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--days", type=int, default=365)
    arguments.add_argument("--save", action="store_true", help=f"Write {RESULTS.name}.")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), options.days)
    for name, value in found.items():
        print(f"{name:<28} {value:>15,.2f}")
    if options.save:
        RESULTS.parent.mkdir(exist_ok=True)
        machine = {"python": platform.python_version(), "machine": platform.machine()}
        RESULTS.write_text(json.dumps({"machine": machine, "found": found}, indent=2) + "\n")


def measure(folder: Path, days: int) -> dict[str, float]:
    path = folder / DATABASE
    backend = SqliteBackend(path)
    found: dict[str, float] = {"days": days, "windows": days * DAY_WINDOWS}
    found["bytes of a window"] = float(np.mean([len(msgspec.msgpack.encode(one)) for one in different()]))
    since = time.perf_counter()
    fill(backend, days)
    found["seconds to write"] = time.perf_counter() - since
    found["MB before"] = path.stat().st_size / 1e6
    found["seconds of report before"], _ = report(folder)
    since = time.perf_counter()
    merged = backend.merge_windows()
    found["seconds to merge"] = time.perf_counter() - since
    found["us for a merged window"] = 1e6 * found["seconds to merge"] / max(1, merged.merged)
    since = time.perf_counter()
    backend.shrink()
    found["seconds to shrink"] = time.perf_counter() - since
    backend.close()
    found["MB after"] = path.stat().st_size / 1e6
    found["seconds of report after"], told = report(folder)
    found["requests that it tells"] = told
    return found


def fill(backend: SqliteBackend, days: int) -> None:
    """Up to now."""
    pool = list(different())
    begin_ns = (time.time_ns() // WINDOW_NS - days * DAY_WINDOWS) * WINDOW_NS
    batch = Batch("r1", "j1", 0, 1, records=(RunStarted("r1", "busy-otter-1", "served", begin_ns, kind="serving"),))
    backend.write([Arrival(batch)])
    for first in range(0, days * DAY_WINDOWS, AT_ONCE):
        numbers = range(first, min(first + AT_ONCE, days * DAY_WINDOWS))
        told = tuple(
            msgspec.structs.replace(pool[number % DIFFERENT], time_ns=begin_ns + number * WINDOW_NS)
            for number in numbers
        )
        backend.write([Arrival(Batch("r1", "j1", 1 + numbers[0], 2 + numbers[-1], records=told))])


def different() -> Iterator[Window]:
    for seed in range(DIFFERENT):
        chance = np.random.default_rng(seed)
        parts = {"total": 0.006, "before": 0.001, "model": 0.004, "after": 0.0005}
        classes, confidence = Distribution(), Distribution(0.75, 0.25)
        classes.add_classes([str(one) for one in chance.integers(0, 10, REQUESTS)])
        confidence.add_numbers(chance.beta(8, 2, REQUESTS).tolist())
        yield Window(
            "intent",
            0,
            10.0,
            "ab" * 32,
            "ab" * 32,
            endpoint="POST /predict",
            requests=REQUESTS,
            in_flight=0.06,
            in_flight_max=3,
            latency={part: histogram(chance.gamma(4, mean / 4, REQUESTS)).encode() for part, mean in parts.items()},
            batch=histogram(np.ones(REQUESTS)).encode(),
            shapes={"float32[*, 64]": REQUESTS},
            predictions={"class": classes.encode(), "confidence": confidence.encode()},
            resources={"system.process.memory": 1e9, "system.process.cpu": 11.0},
        )


def histogram(values: Any) -> Histogram:
    made = Histogram()
    made.add(values.tolist())
    return made


def report(folder: Path) -> tuple[float, int]:
    """Seconds of the command, interpreter included, and how many requests it tells of."""
    words = [sys.executable, "-m", "looptap", "serving", "intent", "--since", "90d", "--json", "--store", str(folder)]
    since = time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=os.environ)
    seconds = time.perf_counter() - since
    return seconds, sum(version["requests"] for version in json.loads(done.stdout)["versions"])


if __name__ == "__main__":
    main()
