"""What a served model comes to: its windows merged, traced to their training, and held against what they were."""

from __future__ import annotations

import time
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from looptap_collector.server.access import Scope, needs
from looptap_collector.server.answers import answered, example
from looptap_collector.server.errors import Refusal
from looptap_collector.server.parameters import only_known_parameters
from looptap_collector.server.service import service_of
from looptap_collector.server.windows import Since, Until
from looptap_collector.serving.experiment import NoVersions, experiment
from looptap_collector.serving.report import report

models = APIRouter(tags=["serving"], dependencies=[Depends(only_known_parameters)])
_HOUR_NS = 3_600 * 10**9
_Model = Annotated[str, Query(max_length=512, description="The name of the model.")]
_Version = Annotated[str | None, Query(max_length=255, description="The beginning of a version.")]
_ARM = {"version": "9f86…", "requests": 8000, "share": 0.8, "replicas": 4}
_EXPERIMENT = {
    "model": "intent",
    "first": _ARM,
    "second": {**_ARM, "version": "60f1…", "requests": 2000, "share": 0.2},
    "at_once": True,
    "since_ns": 1800000000000000000,
    "until_ns": 1800003600000000000,
    "measured": [
        {
            "name": "errors",
            "unit": "share",
            "first": [0.001, 0.0, 0.002],
            "second": [0.02, 0.01, 0.03],
            "difference": [0.019, 0.009, 0.029],
            "is_relative": False,
            "verdict": "worse",
        }
    ],
    "streams": [],
    "verdict": "worse",
}
_VERSION = {
    "version": "9f86…",
    "origin": {"run": "0f3c…", "name": "calm-otter-12"},
    "requests": 812,
    "error_rate": 0.004,
}


@models.get("/v1/serving/comparison", responses=example(_EXPERIMENT))
@needs(Scope.READ)
async def compared(
    request: Request,
    model: _Model,
    first: _Version = None,
    second: _Version = None,
    since_ns: Since = None,
    until_ns: Until = None,
) -> Response:
    """Two versions of a model by the traffic that they had: errors, latency and outcomes with intervals of 99 %, predictions and
    features, and what that says of the second. The two that were asked last, in the last hour, unless it is said otherwise."""
    backend = service_of(request).backend
    since, until = _span(since_ns, until_ns)

    def ask() -> dict[str, Any]:
        try:
            found = experiment(backend, model, since_ns=since, until_ns=until, first=first, second=second)
        except NoVersions as error:
            raise Refusal(404, "not_found", str(error)) from error
        told: dict[str, Any] = msgspec.to_builtins(found)
        return told

    return await answered(request, ask)


@models.get(
    "/v1/serving/report",
    responses=example({"model": "intent", "since_ns": 1, "until_ns": 2, "complete": True, "versions": [_VERSION]}),
)
@needs(Scope.READ)
async def told(
    request: Request,
    model: _Model,
    since_ns: Since = None,
    until_ns: Until = None,
    drift: Annotated[bool, Query(description="Hold the streams against what they were.")] = True,
) -> Response:
    """Of each version of a model: requests, errors, latency, predictions, the training that wrote it, and how much its predictions
    and features differ from that training's evaluation, the version before and the week before. The last hour, unless it is said
    otherwise."""
    backend = service_of(request).backend
    since, until = _span(since_ns, until_ns)

    def ask() -> dict[str, Any]:
        found: dict[str, Any] = msgspec.to_builtins(report(backend, model, since_ns=since, until_ns=until, drift=drift))
        return found

    return await answered(request, ask)


def _span(since_ns: int | None, until_ns: int | None) -> tuple[int, int]:
    """The last hour, unless it is said otherwise."""
    until = time.time_ns() if until_ns is None else until_ns
    return (max(until - _HOUR_NS, -(2**63)) if since_ns is None else since_ns), until
