"""The same points into an MLflow server, for the table of ``benchmarks/server.py``: ``log-batch`` of a thousand metrics at a
time, which is the most that it takes, from a few agents at once."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil

AGENTS = 4
BATCHES = 12
POINTS = 1_000
START_MS = 1_800_000_000_000


def measure(store: str | None, port: int) -> dict[str, Any]:
    """``store`` is the URL of a database, None for a fresh SQLite file."""
    with (
        tempfile.TemporaryDirectory() as folder,
        server(store or f"sqlite:///{folder}/mlflow.db", folder, port) as process,
    ):
        address = f"http://127.0.0.1:{port}/api/2.0/mlflow"
        name = os.urandom(4).hex()
        experiment = ask(f"{address}/experiments/create", {"name": name})["experiment_id"]
        runs = [
            ask(f"{address}/runs/create", {"experiment_id": experiment, "start_time": START_MS})["run"]["info"][
                "run_id"
            ]
            for _ in range(AGENTS)
        ]
        requests = [list(batches(run, seed, port)) for seed, run in enumerate(runs)]
        before = sum_of_times(process)
        began = time.perf_counter()
        waits = asyncio.run(send_all(port, requests))
        seconds = time.perf_counter() - began
        used = sum_of_times(process) - before
        rss = sum(each.memory_info().rss for each in (process, *process.children(recursive=True)))
        points = AGENTS * BATCHES * POINTS
        size = Path(folder, "mlflow.db").stat().st_size / points if store is None else None
        waits_ms = np.array(waits) * 1e3
        return {
            "agents": AGENTS,
            "series": 1,
            "points_each": POINTS,
            "points_per_s": points / seconds,
            "batches_per_s": AGENTS * BATCHES / seconds,
            "ack_p50_ms": float(np.percentile(waits_ms, 50)),
            "ack_p99_ms": float(np.percentile(waits_ms, 99)),
            "rss_mib": rss / 2**20,
            "cpu": used / seconds,
            "bytes_per_point": size,
        }


def batches(run: str, seed: int, port: int) -> Iterator[bytes]:
    random = np.random.default_rng(seed)
    for number in range(BATCHES):
        steps = np.arange(number * POINTS, (number + 1) * POINTS)
        values = 2.3 * np.exp(-steps / 3e5) + random.normal(0, 0.05, POINTS)
        metrics = [
            {"key": "metric_0", "value": value, "timestamp": START_MS + step, "step": step}
            for step, value in zip(steps.tolist(), values.tolist(), strict=True)
        ]
        body = json.dumps({"run_id": run, "metrics": metrics}).encode()
        head = (
            f"POST /api/2.0/mlflow/runs/log-batch HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        yield head.encode() + body


async def send_all(port: int, requests: list[list[bytes]]) -> list[float]:
    waits: list[float] = []

    async def agent(own: list[bytes]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for data in own:
            began = time.perf_counter()
            writer.write(data)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(head)
            await reader.readexactly(int(re.search(rb"(?i)content-length: (\d+)", head)[1]))  # type: ignore[index]
            waits.append(time.perf_counter() - began)
        writer.close()

    await asyncio.gather(*(agent(own) for own in requests))
    return waits


@contextmanager
def server(store: str, folder: str, port: int) -> Iterator[psutil.Process]:
    words = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store]
    words += ["--artifacts-destination", folder, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(words, cwd=folder, stdout=quiet, stderr=quiet, start_new_session=True) as process:
        try:
            wait_for(f"http://127.0.0.1:{port}/health")
            for each in (found := psutil.Process(process.pid), *found.children(recursive=True)):
                each.cpu_affinity([0])
            yield found
        finally:
            os.killpg(process.pid, 15)
            process.wait()


def wait_for(address: str) -> None:
    deadline = time.monotonic() + 90
    while True:
        try:
            urllib.request.urlopen(address, timeout=2).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)


def sum_of_times(process: psutil.Process) -> float:
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def ask(address: str, question: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(address, json.dumps(question).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        found: dict[str, Any] = json.load(answer)
        return found
