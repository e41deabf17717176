"""Where OpenTelemetry metrics go: a file, or a receiver of OTLP over HTTP."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from urllib.parse import unquote

import requests
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

from looptap_collector.backend import RunWindow
from looptap_collector.serving.otlp import request_of

_AT_ONCE = 200
_SECONDS = 30.0
_MEDIA_TYPE = "application/x-protobuf"


class NotTaken(Exception):
    """The receiver did not take all of it; one line."""


def export(windows: Iterable[RunWindow], target: str) -> int:
    """How many windows were told. ``target`` is the path of a file (one ``ExportMetricsServiceRequest``), or the whole address of a
    receiver: ``http://localhost:4318/v1/metrics``. Headers come from ``OTEL_EXPORTER_OTLP_HEADERS``.

    Raises :class:`NotTaken`, and OSError for the file.
    """
    if not target.lower().startswith(("http://", "https://")):
        every = list(windows)
        Path(target).write_bytes(request_of(every).SerializeToString())
        return len(every)
    count = 0
    with requests.Session() as session:
        session.headers.update({"content-type": _MEDIA_TYPE, **_headers()})
        for some in _slices(windows):
            _send(session, target, request_of(some))
            count += len(some)
    return count


def _send(session: requests.Session, address: str, request: ExportMetricsServiceRequest) -> None:
    try:
        answer = session.post(address, data=request.SerializeToString(), timeout=_SECONDS, allow_redirects=False)
    except requests.RequestException as error:
        raise NotTaken(f"{address} cannot be reached: {type(error).__name__}") from error
    if answer.status_code != 200:
        raise NotTaken(f"{address} answers with {answer.status_code} {answer.reason}")
    if answer.headers.get("content-type", "").startswith(_MEDIA_TYPE):
        refused = ExportMetricsServiceResponse.FromString(answer.content).partial_success
        if refused.rejected_data_points:
            raise NotTaken(f"{address} refused {refused.rejected_data_points} points: {refused.error_message}")


def _slices(windows: Iterable[RunWindow]) -> Iterator[list[RunWindow]]:
    rest = iter(windows)
    while some := list(islice(rest, _AT_ONCE)):
        yield some


def _headers() -> dict[str, str]:
    """As OpenTelemetry's own exporters read them: ``name=value,name=value``, percent-encoded."""
    told = os.environ.get("OTEL_EXPORTER_OTLP_HEADERS", "")
    pairs = (pair.partition("=") for pair in told.split(",") if "=" in pair)
    return {name.strip().lower(): unquote(value.strip()) for name, _, value in pairs}
