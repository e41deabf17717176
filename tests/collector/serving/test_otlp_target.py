"""Metrics to a file and to a receiver over HTTP."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

from collector.serving.serving_runs import Serving, window
from looptap.events import Window
from looptap_collector.backend import Backend
from looptap_collector.serving_cli import serving

PROGRAM = click.Group("looptap", commands={"serving": serving})


def looptap(*arguments: str) -> Result:
    return CliRunner().invoke(PROGRAM, ["serving", "--since", "52w", *arguments], catch_exceptions=False)


@contextmanager
def receiver(status: int = 200, refused: int = 0) -> Iterator[tuple[str, list[ExportMetricsServiceRequest], list[Any]]]:
    """An OTLP receiver: its address, what it got, and the headers."""
    got: list[ExportMetricsServiceRequest] = []
    heads: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heads.append(dict(self.headers))
            got.append(ExportMetricsServiceRequest.FromString(self.rfile.read(int(self.headers["content-length"]))))
            answer = ExportMetricsServiceResponse()
            answer.partial_success.rejected_data_points = refused
            answer.partial_success.error_message = "full" if refused else ""
            body = answer.SerializeToString()
            self.send_response(status)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Not on the terminal of the tests."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1/metrics", got, heads
        finally:
            server.shutdown()
            thread.join()


def record(backend: Backend, count: int) -> list[Window]:
    told = [window(10 * at + 5) for at in range(count)]
    Serving(backend, "server").windows(*told)
    Serving(backend, "other").windows(window(5, model="other"))
    return told


def requests_told(got: list[ExportMetricsServiceRequest]) -> int:
    return sum(
        point.as_int
        for request in got
        for resource in request.resource_metrics
        for metric in resource.scope_metrics[0].metrics
        if metric.name == "looptap.serving.requests"
        for point in metric.sum.data_points
    )


def test_to_a_file(backend: Backend, tmp_path: Path) -> None:
    """All models, or one."""
    record(backend, 3)
    place = tmp_path / "metrics.pb"
    assert looptap("--otlp", str(place)).stdout == f"4 windows → {place}\n"
    assert requests_told([ExportMetricsServiceRequest.FromString(place.read_bytes())]) == 400
    assert looptap("intent", "--otlp", str(place)).stdout == f"3 windows → {place}\n"
    missing = looptap("--otlp", str(tmp_path / "no" / "metrics.pb"))
    assert (missing.exit_code, missing.stderr.count("\n")) == (2, 1)
    assert "cannot write" in missing.stderr


def test_over_http(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """In pieces, with the headers that OpenTelemetry's exporters take from the environment."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Bearer%20x, tenant = a ")
    record(backend, 450)
    with receiver() as (address, got, heads):
        assert looptap("intent", "--otlp", address).stdout == f"450 windows → {address}\n"
    assert len(got) == 3
    assert requests_told(got) == 45_000
    told = {name.lower(): value for name, value in heads[0].items()}
    assert (told["authorization"], told["tenant"], told["content-type"]) == ("Bearer x", "a", "application/x-protobuf")


@pytest.mark.parametrize(
    ("how", "said"), [({"status": 401}, "answers with 401"), ({"refused": 7}, "refused 7 points: full")]
)
def test_a_receiver_that_does_not_take_it(backend: Backend, how: dict[str, int], said: str) -> None:
    """Is told in one line."""
    record(backend, 1)
    with receiver(**how) as (address, _, _):
        result = looptap("--otlp", address)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_nobody_there(backend: Backend) -> None:
    record(backend, 1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}/v1/metrics"
        result = looptap("--otlp", address)
    assert (result.exit_code, result.stderr) == (2, f"looptap: {address} cannot be reached: ConnectionError\n")
