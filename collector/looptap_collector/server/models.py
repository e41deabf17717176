"""What a served model comes to: its windows merged, traced to their training, and held against what they were."""

from __future__ import annotations

import time
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from looptap_collector.server.access import Scope, needs
from looptap_collector.server.answers import answered, example
from looptap_collector.server.parameters import only_known_parameters
from looptap_collector.server.service import service_of
from looptap_collector.server.windows import Since, Until
from looptap_collector.serving.report import report

models = APIRouter(tags=["serving"], dependencies=[Depends(only_known_parameters)])
_HOUR_NS = 3_600 * 10**9
_VERSION = {
    "version": "9f86…",
    "origin": {"run": "0f3c…", "name": "calm-otter-12"},
    "requests": 812,
    "error_rate": 0.004,
}


@models.get(
    "/v1/serving/report",
    responses=example({"model": "intent", "since_ns": 1, "until_ns": 2, "complete": True, "versions": [_VERSION]}),
)
@needs(Scope.READ)
async def told(
    request: Request,
    model: Annotated[str, Query(max_length=512, description="The name of the model.")],
    since_ns: Since = None,
    until_ns: Until = None,
    drift: Annotated[bool, Query(description="Hold the streams against what they were.")] = True,
) -> Response:
    """Of each version of a model: requests, errors, latency, predictions, the training that wrote it, and how much its predictions
    and features differ from that training's evaluation, the version before and the week before. The last hour, unless it is said
    otherwise."""
    backend = service_of(request).backend
    until = time.time_ns() if until_ns is None else until_ns
    since = max(until - _HOUR_NS, -(2**63)) if since_ns is None else since_ns

    def ask() -> dict[str, Any]:
        found: dict[str, Any] = msgspec.to_builtins(report(backend, model, since_ns=since, until_ns=until, drift=drift))
        return found

    return await answered(request, ask)
