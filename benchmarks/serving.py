"""What serving a model costs more with looptap.

    python benchmarks/serving.py                     # both parts, about ten minutes
    python benchmarks/serving.py requests            # recording one request: single calls with looptap and without, in turns
    python benchmarks/serving.py load                # a FastAPI server under load, beside peers (serving_load.py)
    python benchmarks/serving.py load --rounds 2 --seconds 3
    python benchmarks/serving.py --save              # writes benchmarks/results/serving.json, too

Exits with 1 when a request is over its budget (``budget.toml``) times the tolerance. A cost is the difference of the medians (and
of the p99s) over single calls in blocks that take turns. *counted* is the processor time of our thread for one such request, a
little later: it takes the interpreter's lock, so it is lost to throughput, but not to the request.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import serving_load
import tomllib
import torch

import looptap
from looptap.serving.asgi import Middleware
from looptap.serving.traffic import TRAFFIC, now
from looptap.serving.windows import Windows

HERE = Path(__file__).parent
CALLS = 2_000


# --- what is asked ----------------------------------------------------------------------------------------------------


def double(rows: list[float]) -> list[float]:
    return [row * 2 for row in rows]


def function(is_on: bool) -> Callable[[], object]:
    model, asked = looptap.watch(double) if is_on else double, [1.0, 2.0, 3.0]
    return lambda: model(asked)


def numpy(is_on: bool) -> Callable[[], object]:
    """Four rows with three probabilities each."""
    asked, answer = np.ones((4, 8), np.float32), np.full((4, 3), 1 / 3, np.float32)

    def predict(rows: Any) -> Any:
        return answer

    model = looptap.watch(predict) if is_on else predict
    return lambda: model(asked)


def kept(is_on: bool) -> Callable[[], object]:
    """A text and its options, answered with scores by name; every call is kept as an example."""

    def classify(text: str, options: dict[str, Any]) -> dict[str, float]:
        return {"shipping": 0.7, "payment": 0.2, "other": 0.1}

    model = looptap.watch(classify, inputs=1.0) if is_on else classify
    options = {"language": "en", "user": {"id": 7, "plan": "free"}}
    return lambda: model("where is my parcel?", options)


def of_torch(is_on: bool) -> Callable[[], object]:
    """A module that answers four rows."""
    asked = torch.full((4, 3), 1 / 3)
    module = torch.nn.Identity().eval()
    model = looptap.watch(module) if is_on else module
    return lambda: model(asked)


async def application(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


async def nowhere(message: Any) -> None:
    pass


def asgi(is_on: bool) -> Callable[[], object]:
    """The middleware alone, as Starlette leaves its scope. Nothing in it ever waits, so no loop is needed to run it."""
    app: Any = Middleware(application) if is_on else application
    route = type("Route", (), {"path": "/predict/{user}"})()
    matched = {"endpoint": application, "route": route, "path_params": {"user": "7"}, "root_path": ""}
    headers = [(b"host", b"localhost"), (b"user-agent", b"benchmark"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/predict/7", "headers": headers, **matched}

    def call() -> None:
        try:
            app(scope, nowhere, nowhere).send(None)
        except StopIteration:
            return

    return call


class Case(NamedTuple):
    key: str
    prepare: Callable[[bool], Callable[[], object]]


CASES = (
    Case("serving.function", function),
    Case("serving.numpy", numpy),
    Case("serving.torch", of_torch),
    Case("serving.kept", kept),
    Case("serving.asgi", asgi),
)


# --- measuring --------------------------------------------------------------------------------------------------------


class Block(NamedTuple):
    """Nanoseconds of a call."""

    least: float
    median: float
    p99: float


def block(case: Case, is_on: bool, folder: str) -> Block:
    if is_on:
        looptap.autolog(store="off", journal=folder, quiet=True, alerts=False, resources=False, serving=True)
    try:
        call, clock = case.prepare(is_on), time.perf_counter_ns
        with torch.no_grad():
            for _ in range(CALLS // 10):
                call()
            durations = []
            for _ in range(CALLS):
                began = clock()
                call()
                durations.append(clock() - began)
        durations.sort()
        return Block(durations[0], statistics.median(durations), durations[CALLS * 99 // 100])
    finally:
        if is_on:
            looptap.stop()


def counted(case: Case) -> float:
    """Nanoseconds of our thread for a request, its share of the window's encoding left out."""
    TRAFFIC.is_counted = True
    call = case.prepare(True)
    with torch.no_grad():
        for _ in range(CALLS):
            call()
    TRAFFIC.is_counted = False
    windows = Windows()
    windows.begin(now())
    began = time.thread_time_ns()
    while TRAFFIC.done:
        windows.count(TRAFFIC.done.popleft())
    windows.so_far()
    return (time.thread_time_ns() - began) / CALLS


def measure(case: Case, blocks: int, folder: str) -> dict[str, Any]:
    found: dict[bool, list[Block]] = {True: [], False: []}
    for turn in range(blocks):
        for is_on in (turn % 2 == 0, turn % 2 == 1):
            found[is_on].append(block(case, is_on, folder))

    def added(name: str) -> float:
        on, off = ([getattr(one, name) for one in found[is_on]] for is_on in (True, False))
        return statistics.median(on) - statistics.median(off)

    return {
        "key": case.key,
        "without_ns": statistics.median(one.median for one in found[False]),
        **{f"{name}_ns": added(name) for name in Block._fields},
        "counted_ns": statistics.median(counted(case) for _ in range(5)),
    }


def requests(blocks: int, tolerance: float) -> tuple[list[dict[str, Any]], list[str]]:
    """What was measured, and what of it is over its budget."""
    torch.set_num_threads(1)
    budget = tomllib.loads((HERE / "budget.toml").read_text())
    rows, over = [], []
    print("| one request | by itself | added, least | median | budget | p99 | budget | counted |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for case in CASES:
            row = measure(case, blocks, folder)
            median, p99 = budget["serving"][case.key], budget["serving_p99"][case.key]
            rows.append({**row, "budget_ns": median, "budget_p99_ns": p99})
            if row["median_ns"] > median * tolerance or row["p99_ns"] > p99 * tolerance:
                over.append(case.key)
            shown = (
                row["without_ns"],
                row["least_ns"],
                row["median_ns"],
                median,
                row["p99_ns"],
                p99,
                row["counted_ns"],
            )
            print(f"| {case.key} | " + " | ".join(f"{value / 1000:.2f} µs" for value in shown) + " |", flush=True)
    return rows, over


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=("requests", "load"), help="only this")
    parser.add_argument("--blocks", type=int, default=15, help="of single calls, each with looptap and without")
    parser.add_argument("--tolerance", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=6, help="of the load: each server once")
    parser.add_argument("--seconds", type=float, default=12.0, help="of load on each server")
    parser.add_argument("--save", action="store_true")
    given = parser.parse_args()
    found: dict[str, Any] = {"python": platform.python_version(), "machine": platform.machine()}
    over: list[str] = []
    if given.part != "load":
        found["requests"], over = requests(given.blocks, given.tolerance)
    if given.part != "requests":
        found["load"] = serving_load.compare(given.rounds, given.seconds)
    if given.save:
        (HERE / "results").mkdir(exist_ok=True)
        (HERE / "results" / "serving.json").write_text(json.dumps(found, indent=1) + "\n")
    if over:
        raise SystemExit(f"over the budget: {', '.join(over)}")


if __name__ == "__main__":
    main()
