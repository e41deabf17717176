"""A chart of a series of ten million points, before and after compaction: ``python benchmarks/chart.py``.

Values are doubles with noise in every bit, times jitter around a millisecond: the worst that training makes. The series is
written in batches of 43,000 points, as a sender that catches up makes them, and of 1,000. Times are the median of 15 calls
of ``backend.chart`` for 2,000 points, in a process that has the store open (what a server does for one chart, but for the
JSON). Bytes per point are those of the whole SQLite file. The end of a run is what an embedded store does when the run tells
it: with its compaction, which is bounded in time, and what it would be without.
"""

from __future__ import annotations

import json
import platform
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from store import training_batches

from looptap.events import Batch, RunEnded
from looptap_collector.backends.sqlite import SqliteBackend
from looptap_collector.embedded import DATABASE, Embedded
from looptap_collector.pipeline import Pipeline

RESULTS = Path(__file__).parent / "results" / "chart.json"
LONG = 10_000_000
PARTS = (("all", 1), ("a tenth", 10), ("a thousandth", 1_000))
POINTS = 2_000
#: (series, points of each)
ENDING = ((1, 10_000), (20, 10_000), (20, 100_000), (1, 10_000_000))


def main() -> None:
    charts = [measure_charts(points_each) for points_each in (43_000, 1_000)]
    for row in charts:
        print(
            f"\n{row['points']:,} points in batches of {row['points_each']:,}; "
            f"compacted in {row['compact_s']:.1f} s, the file made smaller in {row['shrink_s']:.1f} s"
        )
        print(f"{'':>18} {'bytes/point':>12} {'history':>10}" + "".join(f"{name:>16}" for name, _ in PARTS))
        for moment in ("before", "after"):
            found = row[moment]
            times = "".join(f"{found['chart_ms'][name]:>13.1f} ms" for name, _ in PARTS)
            print(f"{moment:>18} {found['bytes_per_point']:>12.2f} {found['history_ms']:>7.0f} ms{times}")
    endings = [measure_ending(*shape) for shape in ENDING]
    print("\nend of a run in an embedded store")
    for row in endings:
        print(
            f"{row['series']:>4} series of {row['points_each']:>12,} points: {row['end_ms']:>7.1f} ms, "
            f"without compaction {row['plain_end_ms']:.1f} ms"
        )
    machine = {"python": platform.python_version(), "machine": platform.machine(), "sqlite": sqlite3.sqlite_version}
    RESULTS.write_text(json.dumps({"machine": machine, "charts": charts, "endings": endings}, indent=2) + "\n")


def measure_charts(points_each: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / DATABASE
        backend = SqliteBackend(path)
        pipeline = Pipeline(backend)
        for batch in training_batches(1, points_each, -(-LONG // points_each), are_floats=False):
            pipeline.accept(batch)
        (series,) = backend.series(["benchmark"])

        def moment() -> dict[str, Any]:
            with sqlite3.connect(path) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.close()
            charts = {}
            for name, part in PARTS:
                middle, half = series.count // 2, series.count // part // 2
                bounds = None if part == 1 else (middle - half, middle + half)
                charts[name] = milliseconds(
                    lambda bounds=bounds: backend.chart("benchmark", "metric_0", {}, points=POINTS, steps=bounds)
                )
            history_ms = milliseconds(lambda: backend.history("benchmark", "metric_0", {}), calls=3)
            return {
                "bytes_per_point": path.stat().st_size / series.count,
                "chart_ms": charts,
                "history_ms": history_ms,
            }

        before = moment()
        began = time.perf_counter()
        backend.compact()
        compact_s = time.perf_counter() - began
        backend.shrink()
        shrink_s = time.perf_counter() - began - compact_s
        after = moment()
        backend.close()
        return {
            "points": series.count,
            "points_each": points_each,
            "compact_s": compact_s,
            "shrink_s": shrink_s,
            "before": before,
            "after": after,
        }


def measure_ending(series: int, points_each: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        times = []
        for number, compacts in enumerate((True, False)):
            store = Path(folder) / str(number)
            sink = Embedded(store)
            batch = None
            for batch in training_batches(series, min(points_each, 2_500), points_each // 2_500, are_floats=False):
                sink.deliver(batch)
            assert batch is not None
            end = Batch("benchmark", "journal", batch.next, batch.next + 1, (), (RunEnded("finished", 1),))
            began = time.perf_counter()
            if compacts:
                sink.deliver(end)
            else:
                sink._pipeline.accept(end)
            times.append((time.perf_counter() - began) * 1e3)
            sink.close()
        return {"series": series, "points_each": points_each, "end_ms": times[0], "plain_end_ms": times[1]}


def milliseconds(call: Callable[[], object], calls: int = 15) -> float:
    call()
    times = []
    for _ in range(calls):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e3


if __name__ == "__main__":
    main()
