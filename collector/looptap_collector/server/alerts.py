"""Questions about what runs warned of."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from looptap_collector.alerts import alert_fields
from looptap_collector.backend import MOST_ALERTS
from looptap_collector.server.access import Scope, needs
from looptap_collector.server.answers import answered, example
from looptap_collector.server.lineage import MOST_NAMES
from looptap_collector.server.parameters import only_known_parameters
from looptap_collector.server.service import service_of
from looptap_collector.serving.drifts import each_once

alerts = APIRouter(tags=["alerts"], dependencies=[Depends(only_known_parameters)])
_ALERT = {
    "run": "0f3c…",
    "kind": "not_finite",
    "severity": "critical",
    "state": "fired",
    "message": "loss is NaN since step 312",
    "time_ns": 1800000000000000000,
    "key": "loss",
    "value": "NaN",
    "threshold": None,
    "step": 312,
    "rank": 0,
}


@alerts.get("/v1/alerts", responses=example({"alerts": [_ALERT], "complete": True}))
@needs(Scope.READ)
async def raised(
    request: Request,
    run: Annotated[
        list[str] | None, Query(max_length=MOST_NAMES, description="Only of these runs, by their ids.")
    ] = None,
    kind: Annotated[str | None, Query(max_length=64, description="`not_finite`, `stall`, …")] = None,
    once: Annotated[
        bool, Query(description="A drift that several replicas tell is told once, with their number as `replicas`.")
    ] = False,
    limit: Annotated[int, Query(ge=1, le=MOST_ALERTS)] = 1_000,
) -> Response:
    """What runs warned of while they trained (`fired`), and what of it is over (`recovered`), the latest first. `complete` is false
    when there is more than `limit`."""
    backend = service_of(request).backend

    def ask() -> dict[str, Any]:
        found = backend.alerts(runs=run, kind=kind, limit=limit + 1)
        told = [{"run": one.run, **alert_fields(one.alert)} for one in found[:limit]]
        if once:
            told = [
                {"run": one.run, **alert_fields(one.alert), "replicas": replicas}
                for one, replicas in each_once(backend, found[:limit])
            ]
        return {"alerts": told, "complete": len(found) <= limit}

    return await answered(request, ask)
