"""What a collector takes in over real HTTP: ``python benchmarks/server.py [--store URL] [--mlflow PORT]``.

The collector is ``looptap server`` as a user starts it, a process of its own on one core; the agents are connections of
this process on another. Each agent has a run, sends a batch, waits for the answer (which comes after the commit) and sends
the next, as the real agent does. Bodies are made beforehand, with the agent's encoder: what is measured is the collector.
``acknowledge`` is what an agent waits for. Bytes per point are those of the store's file after the end of the runs and
``looptap store compact``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow_server
import msgspec
import numpy as np
import psutil
import zstandard

from looptap.events import Batch, RunEnded, RunStarted, SeriesPoints

RESULTS = Path(__file__).parent / "results" / "server.json"
#: (agents, series, points of each per batch, batches of each agent)
SHAPES = ((2, 20, 1_000, 100), (16, 1, 1_000, 200), (16, 1, 100, 600))
START_NS = 1_800_000_000_000_000_000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", help="URL of a database; default: a fresh folder (SQLite)")
    parser.add_argument("--writers", default="1")
    parser.add_argument("--label", default="sqlite")
    parser.add_argument(
        "--mlflow", metavar="PORT", type=int, help="an MLflow server on the same kind of store beside it"
    )
    parser.add_argument("--mlflow-store", metavar="URL", help="its database; default: a fresh SQLite file")
    arguments = parser.parse_args()
    rows = [{"server": "looptap", **measure(arguments.store, arguments.writers, *shape)} for shape in SHAPES]
    if arguments.mlflow:
        rows.append({"server": "MLflow", **mlflow_server.measure(arguments.mlflow_store, arguments.mlflow)})
    heads = (
        "agents",
        "series",
        "points each",
        "points/s",
        "batches/s",
        "ack p50",
        "ack p99",
        "RSS MiB",
        "CPU",
        "B/point",
    )
    print(" ".join(f"{head:>11}" for head in heads))
    for row in rows:
        cells = (
            row["server"],
            f"{row['agents']}",
            f"{row['series']}",
            f"{row['points_each']:,}",
            f"{row['points_per_s']:,.0f}",
            f"{row['batches_per_s']:,.0f}",
            f"{row['ack_p50_ms']:.1f} ms",
            f"{row['ack_p99_ms']:.1f} ms",
            f"{row['rss_mib']:.0f}",
            f"{row['cpu']:.2f}",
            f"{row['bytes_per_point'] or math.nan:.1f}",
        )
        print(" ".join(f"{cell:>11}" for cell in cells))
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    machine = {"python": platform.python_version(), "machine": platform.machine(), "cores": os.cpu_count()}
    known[arguments.label] = {"machine": machine, "rows": rows}
    RESULTS.write_text(json.dumps(known, indent=2) + "\n")


def measure(
    store: str | None, writers: str, agents: int, series: int, points_each: int, batches: int
) -> dict[str, Any]:
    with (
        tempfile.TemporaryDirectory() as folder,
        server(store or f"{folder}/store", folder, writers) as (port, token, process),
    ):
        marker = os.urandom(4).hex()
        requests = [
            list(bodies(f"{marker}-{agent}", agent, series, points_each, batches, port, token))
            for agent in range(agents)
        ]
        before = process.cpu_times()
        began = time.perf_counter()
        waits = asyncio.run(send_all(port, [each[1:-1] for each in requests], [each[0] for each in requests]))
        seconds = time.perf_counter() - began
        after = process.cpu_times()
        rss = process.memory_info().rss
        asyncio.run(send_all(port, [each[-1:] for each in requests], []))
        points = agents * series * points_each * batches
        waits_ms = np.array(waits) * 1e3
        size = None
        if store is None:
            compact(f"{folder}/store", folder)
            size = sum(path.stat().st_size for path in Path(folder, "store").glob("looptap.db*")) / points
        return {
            "agents": agents,
            "series": series,
            "points_each": points_each,
            "points_per_s": points / seconds,
            "batches_per_s": agents * batches / seconds,
            "ack_p50_ms": float(np.percentile(waits_ms, 50)),
            "ack_p99_ms": float(np.percentile(waits_ms, 99)),
            "rss_mib": rss / 2**20,
            "cpu": ((after.user + after.system) - (before.user + before.system)) / seconds,
            "bytes_per_point": size,
        }


def bodies(run: str, seed: int, series: int, points_each: int, batches: int, port: int, token: str) -> Iterator[bytes]:
    """Whole requests of one agent: the start of its run, the batches, the end."""
    random = np.random.default_rng(seed)
    compressor = zstandard.ZstdCompressor(level=1)
    first, start_ns = 1, START_NS
    yield request(Batch(run, run, 0, 1, (), (RunStarted(run, run, "benchmark", START_NS),)), compressor, port, token)
    for number in range(batches):
        steps = np.arange(number * points_each, (number + 1) * points_each)
        times_ns = start_ns + np.cumsum(random.normal(1e6, 5e4, points_each)).astype(np.int64)
        start_ns = int(times_ns[-1])
        columns = []
        for index in range(series):
            values = 2.3 * np.exp(-steps / 3e5) + random.normal(0, 0.05, points_each)
            columns.append(SeriesPoints(f"metric_{index}", {}, steps.tobytes(), times_ns.tobytes(), values.tobytes()))
        end = first + series * points_each
        yield request(Batch(run, run, first, end, tuple(columns), heartbeat_ns=start_ns), compressor, port, token)
        first = end
    yield request(Batch(run, run, first, first + 1, (), (RunEnded("finished", start_ns),)), compressor, port, token)


def request(batch: Batch, compressor: zstandard.ZstdCompressor, port: int, token: str) -> bytes:
    body = compressor.compress(msgspec.msgpack.encode(batch))
    head = (
        f"POST /v1/batches HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/x-msgpack\r\nContent-Encoding: zstd\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def send_all(port: int, timed: list[list[bytes]], first: list[bytes]) -> list[float]:
    waits: list[float] = []

    async def agent(requests: list[bytes]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for data in requests:
            began = time.perf_counter()
            writer.write(data)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(re.search(rb"content-length: (\d+)", head)[1])  # type: ignore[index]
            answer = await reader.readexactly(length)
            waits.append(time.perf_counter() - began)
            if b"stored" not in answer:
                raise RuntimeError(f"{head!r} {answer!r}")
        writer.close()

    await asyncio.gather(*(agent([data]) for data in first))
    waits.clear()
    await asyncio.gather(*(agent(requests) for requests in timed))
    return waits


@contextmanager
def server(store: str, folder: str, writers: str) -> Iterator[tuple[int, str, psutil.Process]]:
    environment = {**os.environ, "XDG_CONFIG_HOME": folder, "XDG_STATE_HOME": folder, "PYTHONUNBUFFERED": "1"}
    words = [
        "taskset",
        "-c",
        "0",
        sys.executable,
        "-m",
        "looptap.cli",
        "server",
        "--store",
        store,
        "--artifacts",
        f"{folder}/artifacts",
        "--port",
        "0",
        "--writers",
        writers,
    ]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment, cwd=folder) as process:
        assert process.stdout is not None
        os.sched_setaffinity(0, {1})
        try:
            for line in process.stdout:
                if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                    break
            else:
                raise RuntimeError("the server did not start")
            token = Path(folder, "looptap", "token").read_text().strip()
            yield int(found[1]), token, psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait()


def compact(store: str, folder: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "looptap.cli", "store", "compact", store],
        cwd=folder,
        check=True,
        stdout=subprocess.DEVNULL,
    )


if __name__ == "__main__":
    main()
