"""Questions about what models answered while they were served."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from looptap_collector.backend import MOST_WINDOWS, WindowQuery
from looptap_collector.remote.windows import place_in_words, place_of
from looptap_collector.server.access import Scope, needs
from looptap_collector.server.answers import answered, example, wants_msgpack
from looptap_collector.server.lineage import MOST_NAMES
from looptap_collector.server.parameters import only_known_parameters
from looptap_collector.server.service import service_of
from looptap_collector.windows import window_fields

windows = APIRouter(tags=["serving"], dependencies=[Depends(only_known_parameters)])
#: Up to the year 2255, which is what 63 bits hold whatever the digits.
_PLACE = "^-?([0-9]{1,18}|[1-8][0-9]{18}):[0-9a-f]{64}$"
_TIME = {"ge": -(2**63), "le": 2**63 - 1}
Since = Annotated[int | None, Query(**_TIME, description="Windows that began then or later.")]
Until = Annotated[int | None, Query(**_TIME, description="Windows that began before that.")]
Runs = Annotated[list[str] | None, Query(max_length=MOST_NAMES, description="Only of these runs, by their ids.")]
_WINDOW: dict[str, Any] = {
    "run": "0f3c…",
    "journal": "host-4711-0",
    "model": "intent",
    "version": "9f86…",
    "endpoint": "POST /predict",
    "split": None,
    "time_ns": 1800000000000000000,
    "seconds": 10.0,
    "requests": 812,
    "errors": {"ValueError": 3},
    "latency": {"total": "mc0D…"},
    "examples": [
        {
            "draw": 0.0031,
            "time_ns": 1800000000000000000,
            "asked": {"text": "where is my parcel?"},
            "answer": "shipping",
            "error": None,
            "ids": [],
        }
    ],
}
_SERVED = {
    "model": "intent",
    "version": "9f86…",
    "requests": 812,
    "errors": 3,
    "windows": 1,
    "first_ns": 1800000000000000000,
    "last_ns": 1800000000000000000,
}


@windows.get("/v1/windows", responses=example({"windows": [_WINDOW], "next": None}))
@needs(Scope.READ)
async def told(
    request: Request,
    run: Runs = None,
    model: Annotated[list[str] | None, Query(max_length=MOST_NAMES, description="Only of these models.")] = None,
    version: Annotated[list[str] | None, Query(max_length=MOST_NAMES, description="Only of these versions.")] = None,
    reference: Annotated[bool, Query(description="Those of evaluations instead of those of serving.")] = False,
    since_ns: Since = None,
    until_ns: Until = None,
    before: Annotated[str | None, Query(pattern=_PLACE, description="The `next` of another answer.")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_WINDOWS)] = 1_000,
) -> Response:
    """What models answered, window by window and replica by replica, the latest first. Sketches are as the agent encoded them (in
    JSON in base64); `/v1/serving/report` has what they come to."""
    backend = service_of(request).backend
    query = WindowQuery(
        runs=_names(run),
        models=_names(model),
        versions=_names(version),
        reference=reference,
        since_ns=since_ns,
        until_ns=until_ns,
        before=None if before is None else place_of(before),
        limit=limit + 1,
    )

    def ask() -> dict[str, Any]:
        found = backend.windows(query)
        plain = not wants_msgpack(request)
        behind = place_in_words(found[limit - 1].place) if len(found) > limit else None
        return {"windows": [window_fields(one, plain=plain) for one in found[:limit]], "next": behind}

    return await answered(request, ask)


@windows.get("/v1/serving", responses=example({"models": [_SERVED]}))
@needs(Scope.READ)
async def served(request: Request, run: Runs = None, since_ns: Since = None, until_ns: Until = None) -> Response:
    """Versions of models that were asked: how often, with how many errors, and when."""
    backend = service_of(request).backend

    def ask() -> dict[str, Any]:
        found = backend.served(since_ns=since_ns, until_ns=until_ns, runs=run)
        return {"models": [msgspec.structs.asdict(one) for one in found]}

    return await answered(request, ask)


def _names(given: list[str] | None) -> tuple[str, ...] | None:
    return None if given is None else tuple(given)
