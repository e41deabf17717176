"""What a table of many runs takes in the embedded store: ``python benchmarks/run_table.py``.

10,000 runs with 20 series and 20 params each, all in one SQLite file. Each question is the first page of 100 runs, from the
text of the filter to the rows, asked 15 times; *behind* is the page behind the middle of the table. The rows are put into
the tables directly: how they come in is measured by ``store.py``.
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

import msgspec
import numpy as np
from sqlalchemy import create_engine, insert

from looptap.events import Environment, RunStarted
from looptap_collector.backend import RunQuery
from looptap_collector.backends import tables
from looptap_collector.backends.sqlite import SqliteBackend

RESULTS = Path(__file__).parent / "results" / "run_table.json"
RUNS, SERIES, PARAMS = 10_000, 20, 20
TIMES = 15
START_NS = 1_800_000_000_000_000_000
QUESTIONS: dict[str, dict[str, Any]] = {
    "newest first": {},
    "sorted by a metric": {"order": ("metrics.metric_7",)},
    "sorted by a param, greatest first": {"order": ("-params.param_3",)},
    "by param": {"filter": "params.param_3 = 5"},
    "by metric": {"filter": "metrics.metric_7.last < 0.05"},
    "by metric, nearly all": {"filter": "metrics.metric_7.last < 0.95"},
    "by param and metric, sorted by another": {
        "filter": "params.param_3 = 5 and metrics.metric_7.min < 0.3 and tags.team = 'nlp'",
        "order": ("metrics.metric_9",),
    },
    "by nothing that there is": {"filter": "metrics.none < 1 or params.none exists"},
    "by host and commit (JSON)": {"filter": 'host = "box-3" and git.commit ~ "0f"'},
}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "looptap.db"
        SqliteBackend(path).close()
        fill(path)
        backend = SqliteBackend(path)
        rows = [measure(backend, name, RunQuery(limit=100, **asked)) for name, asked in QUESTIONS.items()]
        metric = RunQuery(limit=100, order=("metrics.metric_7",))
        rows.append(measure(backend, "sorted by a metric, behind", middle_of(backend, metric)))
        backend.close()
        megabytes = path.stat().st_size / 1e6
    print(f"{RUNS:,} runs, {SERIES} series and {PARAMS} params each, {megabytes:.0f} MB")
    print(f"{'first page of 100':<42} {'median':>9} {'worst':>9} {'runs':>5}")
    for row in rows:
        print(f"{row['question']:<42} {row['median_ms']:>6.1f} ms {row['worst_ms']:>6.1f} ms {row['runs']:>5}")
    machine = {"python": platform.python_version(), "machine": platform.machine(), "sqlite": sqlite3.sqlite_version}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"machine": machine, "runs": RUNS, "questions": rows}, indent=2) + "\n")


def measure(backend: SqliteBackend, name: str, query: RunQuery) -> dict[str, Any]:
    times = []
    for _ in range(TIMES):
        began = time.perf_counter()
        page = backend.search(query)
        times.append((time.perf_counter() - began) * 1e3)
    return {
        "question": name,
        "median_ms": float(np.median(times)),
        "worst_ms": max(times),
        "runs": len(page.rows),
    }


def middle_of(backend: SqliteBackend, query: RunQuery) -> RunQuery:
    for _ in range(RUNS // query.limit // 2):
        query = msgspec.structs.replace(query, cursor=backend.search(query).next)
    return query


def fill(path: Path) -> None:
    engine = create_engine(f"sqlite:///{path}")
    random = np.random.default_rng(0)
    with engine.begin() as connection:
        connection.execute(insert(tables.experiment).values(id=1, name="benchmark"))
        for first in range(0, RUNS, 1_000):
            names = [f"{number:032x}" for number in random.permutation(range(first, first + 1_000))]
            connection.execute(insert(tables.run), [run_row(number, name) for number, name in enumerate(names, first)])
            connection.execute(insert(tables.param), [row for name in names for row in param_rows(name, random)])
            connection.execute(insert(tables.series), [row for name in names for row in series_rows(name, random)])
            connection.execute(
                insert(tables.tag),
                [
                    {"run": name, "key": "team", "value": ("nlp", "vision")[index % 2], "time_ns": 1}
                    for index, name in enumerate(names)
                ],
            )
    engine.dispose()


def run_row(number: int, name: str) -> dict[str, Any]:
    started = RunStarted(
        name, f"run-{number}", "benchmark", START_NS + number, script="train.py", host=f"box-{number % 50}"
    )
    packages = {f"package_{index}": "1.0.0" for index in range(150)}
    environment = Environment(START_NS, git_commit=f"{number * 2_654_435_761 % 2**32:040x}", packages=packages)
    return {
        "run": name,
        "experiment_id": 1,
        "name": started.name,
        "kind": "training",
        "status": "finished",
        "started_ns": started.time_ns,
        "ended_ns": started.time_ns + 10**12,
        "told_end": 1,
        "identity": msgspec.json.encode(started).decode(),
        "environment": msgspec.json.encode(environment).decode(),
    }


def param_rows(run: str, random: np.random.Generator) -> Iterator[dict[str, Any]]:
    for index, value in enumerate(random.integers(0, 100, PARAMS).tolist()):
        fixed = {"revision": 0, "source": "user", "time_ns": 1, "is_current": 1}
        yield {"run": run, "key": f"param_{index}", "value": str(value), "number": value, **fixed}


def series_rows(run: str, random: np.random.Generator) -> Iterator[dict[str, Any]]:
    for index, (lowest, last, highest) in enumerate(np.sort(random.random((SERIES, 3))).tolist()):
        yield {
            "run": run,
            "key": f"metric_{index}",
            "context": "{}",
            **{"count": 1_000, "nan_count": 0, "first_step": 0, "last_step": 999, "last_time_ns": START_NS},
            **{"last": last, "min": lowest, "max": highest},
            **{"last_real": last, "min_real": lowest, "max_real": highest},
            **{"next_part": 1, "tail_part": 1, "tail_points": 0},
        }


if __name__ == "__main__":
    main()
