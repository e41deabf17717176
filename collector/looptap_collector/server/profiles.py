"""The question what held a run back."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from looptap_collector.profiles.profile import profile_of
from looptap_collector.server.access import Scope, needs
from looptap_collector.server.answers import answered, example
from looptap_collector.server.parameters import only_known_parameters
from looptap_collector.server.runs import Which, found
from looptap_collector.server.service import service_of

profiles = APIRouter(tags=["runs"], dependencies=[Depends(only_known_parameters)])
_FINDING = {
    "rule": "waiting_for_data",
    "title": "waiting for data",
    "says": "63 % of the time of the steps went by waiting for the DataLoader: 41 ms of 65 ms.",
    "advice": "DataLoader(…, num_workers=2) should cover it (now 0).",
    "threshold": "20 % of the step time",
    "weight": 0.63,
    "facts": [{"name": "mean wait for a batch", "value": 0.041, "unit": "seconds"}],
}
_MOST = 1e12


@profiles.get(
    "/v1/runs/{run:path}/profile",
    responses=example({"run": "0f3c…", "name": "calm-otter-12", "phases": [], "findings": [_FINDING]}),
)
@needs(Scope.READ)
async def of_run(
    request: Request,
    run: Which,
    price_per_hour: Annotated[float | None, Query(ge=0, le=_MOST, description="Of all that the run had.")] = None,
    grid_kg_per_kwh: Annotated[float | None, Query(ge=0, le=_MOST, description="kg of CO₂e for a kWh.")] = None,
) -> Response:
    """Where the time of a run went, and what held it back: findings, worst first, each with its numbers, its threshold and what to
    do; energy and cost. What could not be judged is in `not_looked_at`, with what is missing for it."""
    backend = service_of(request).backend

    def ask() -> Any:
        row = found(backend, run)
        made = profile_of(backend, row, price_per_hour=price_per_hour, grid_kg_per_kwh=grid_kg_per_kwh)
        return msgspec.to_builtins(made)

    return await answered(request, ask)
