"""A FastAPI server with a small torch model under load: plain, with looptap, and with peers, each in a process of its own.

``python benchmarks/serving.py load`` runs it; the peers must be installed in the same environment: ``pip install -e
".[benchmarks]"``. One process of uvicorn, and a client in another with eight connections, each of which asks again as soon as it
has its answer. A round has each server once, from another one on each time; ratios are against the plain server of the same round,
and *off again* is a second plain one: what two equal servers differ by. looptap writes to a store of its own; the peers keep
requests and latency by route in memory.
"""

from __future__ import annotations

import importlib.util
import json
import os
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

CONNECTIONS = 8
#: In which looptap begins its run, too.
WARM_SECONDS = 3.0
BODY = json.dumps([[0.1 * number for number in range(8)]] * 4).encode()
REQUEST = (
    b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    % len(BODY)
) + BODY
#: By name, the module that must be there.
SERVERS = {
    "off": None,
    "looptap": "looptap",
    "off again": None,
    "prometheus": "prometheus_fastapi_instrumentator",
    "opentelemetry": "opentelemetry.instrumentation.fastapi",
}


# --- the server -------------------------------------------------------------------------------------------------------


def serve(kind: str, port: int) -> None:
    if kind == "looptap":
        import looptap

        looptap.autolog(serving=True, quiet=True)
    import torch
    import uvicorn
    from fastapi import FastAPI

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model: Any = torch.nn.Sequential(
        torch.nn.Linear(8, 64), torch.nn.ReLU(), torch.nn.Linear(64, 3), torch.nn.Softmax(1)
    )
    model.eval()
    if kind == "looptap":
        model = looptap.watch(model, name="mlp")
    app = FastAPI()

    @app.post("/predict")
    async def predict(rows: list[list[float]]) -> list[list[float]]:
        with torch.inference_mode():
            answer: list[list[float]] = model(torch.tensor(rows)).tolist()
        return answer

    if kind == "prometheus":
        from prometheus_fastapi_instrumentator import Instrumentator

        Instrumentator().instrument(app).expose(app)
    elif kind == "opentelemetry":
        from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader

        FastAPIInstrumentor.instrument_app(app, meter_provider=MeterProvider([InMemoryMetricReader()]))
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", access_log=False)


# --- the client -------------------------------------------------------------------------------------------------------


def ask(port: int, seconds: float) -> dict[str, Any]:
    """Requests per second, and their latencies in microseconds, of a closed loop."""
    with selectors.DefaultSelector() as selector:
        connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS)]
        size = _size_of_answer(connections[0])
        until = time.perf_counter() + seconds
        latencies: list[float] = []
        began: dict[socket.socket, float] = {}
        missing: dict[socket.socket, int] = {}
        for one in connections:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(one, selectors.EVENT_READ)
            began[one], missing[one] = time.perf_counter(), size
            one.sendall(REQUEST)
        started = at = time.perf_counter()
        while at < until:
            for key, _ in selector.select():
                one: Any = key.fileobj
                missing[one] -= len(one.recv(65536))
                if missing[one] <= 0:
                    at = time.perf_counter()
                    latencies.append(at - began[one])
                    began[one], missing[one] = at, size
                    one.sendall(REQUEST)
        for one in connections:
            one.close()
    latencies.sort()
    return {
        "requests": len(latencies),
        "per_second": len(latencies) / (at - started),
        "p50_us": 1e6 * statistics.median(latencies),
        "p99_us": 1e6 * latencies[len(latencies) * 99 // 100],
    }


def _size_of_answer(connection: socket.socket) -> int:
    """All answers are of the same size."""
    connection.sendall(REQUEST)
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(65536)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b" 200 " in head, head
    length = int(head.lower().partition(b"content-length:")[2].split()[0])
    while len(body) < length:
        body += connection.recv(65536)
    return len(head) + 4 + length


# --- comparing --------------------------------------------------------------------------------------------------------


@contextmanager
def running(kind: str) -> Iterator[tuple[psutil.Process, int]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        environment = {
            **os.environ,
            "LOOPTAP_STORE": str(Path(folder) / "store"),
            "XDG_STATE_HOME": str(Path(folder) / "state"),
            "OMP_NUM_THREADS": "1",
        }
        words = [sys.executable, __file__, "serve", kind.removesuffix(" again"), str(port)]
        server = subprocess.Popen(words, env=environment)
        try:
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    if server.poll() is not None:
                        raise SystemExit(f"the server {kind!r} did not start") from None
                    time.sleep(0.05)
            yield psutil.Process(server.pid), port
        finally:
            server.terminate()
            server.wait(30)


def measure(kind: str, seconds: float) -> dict[str, Any]:
    with running(kind) as (server, port):
        ask(port, WARM_SECONDS)
        before = server.cpu_times()
        words = [sys.executable, __file__, "ask", str(port), str(seconds)]
        found: dict[str, Any] = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
        after = server.cpu_times()
        used = after.user + after.system - before.user - before.system
        return {**found, "cpu_us": 1e6 * used / found["requests"]}


def compare(rounds: int, seconds: float) -> dict[str, Any]:
    """Measures and prints a table."""
    kinds = [kind for kind, module in SERVERS.items() if module is None or _is_there(module)]
    absent = [kind for kind in SERVERS if kind not in kinds]
    found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    for turn in range(rounds):
        for place in range(len(kinds)):
            kind = kinds[(turn + place) % len(kinds)]
            found[kind].append(measure(kind, seconds))
            print(".", end="", flush=True, file=sys.stderr)
    print(file=sys.stderr)
    print(
        "| server | requests/s | loss of throughput, median | of each round | processor time of a request | more | p50 | p99 |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for kind in kinds:
        losses = sorted(
            100 * (1 - one["per_second"] / off["per_second"])
            for one, off in zip(found[kind], found["off"], strict=True)
        )
        more = statistics.median(
            one["cpu_us"] - off["cpu_us"] for one, off in zip(found[kind], found["off"], strict=True)
        )
        shown = {
            name: statistics.median(one[name] for one in found[kind])
            for name in ("per_second", "cpu_us", "p50_us", "p99_us")
        }
        print(
            f"| {kind} | {shown['per_second']:,.0f} | {statistics.median(losses):+.1f} % | {losses[0]:+.1f} to {losses[-1]:+.1f} %"
            f" | {shown['cpu_us']:,.0f} µs | {more:+.1f} µs | {shown['p50_us']:,.0f} µs | {shown['p99_us']:,.0f} µs |"
        )
    for kind in absent:
        print(f"not measured, since it is not installed: {kind}")
    return found


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], int(sys.argv[3]))
    else:
        print(json.dumps(ask(int(sys.argv[2]), float(sys.argv[3]))))
