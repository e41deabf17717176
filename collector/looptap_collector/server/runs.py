"""Questions about runs."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response

from looptap_collector.backend import Backend, RunQuery, RunRow
from looptap_collector.filters import FilterError
from looptap_collector.query import UnknownRun, find_run
from looptap_collector.record import iso, run_record, run_table
from looptap_collector.server.access import Scope, needs
from looptap_collector.server.answers import answer, answered, example
from looptap_collector.server.errors import Refusal
from looptap_collector.server.parameters import only_known_parameters
from looptap_collector.server.service import in_thread, service_of

runs = APIRouter(tags=["runs"], dependencies=[Depends(only_known_parameters)])
Which = Annotated[str, Path(max_length=512, description="An id, the beginning of one, a name, or `latest`.")]
_RUN = {
    "id": "0f3c…",
    "name": "calm-otter-12",
    "experiment": "baseline",
    "status": "finished",
    "started": "2027-01-15T08:00:00.000000Z",
    "duration_seconds": 12.5,
    "params": {"lr": 0.001},
    "metrics": {"loss": {"key": "loss", "context": {}, "count": 1000, "last": 0.31, "min": 0.3, "max": 2.3}},
    "tags": {"team": "nlp"},
}


_LANGUAGE = "the language is described in docs/filters.md"
_HINTS = {
    "filter": _LANGUAGE,
    "order": _LANGUAGE,
    "cursor": "a cursor is the `next` of the page before, and goes with the same filter and order",
}


@runs.get(
    "/v1/experiments",
    responses=example(
        {
            "experiments": [
                {
                    "name": "baseline",
                    "runs": 3,
                    "newest": "2027-01-15T08:00:00.000000Z",
                    "newest_ns": 1800000000000000000,
                }
            ]
        }
    ),
)
@needs(Scope.READ)
async def experiments(request: Request) -> Response:
    """All experiments by name, with the number of their runs and the start of the newest."""
    rows = await in_thread(service_of(request).backend.experiments)
    listed = [
        {"name": row.name, "runs": row.runs, "newest": iso(row.newest_ns), "newest_ns": row.newest_ns} for row in rows
    ]
    return answer(request, {"experiments": listed})


@runs.get("/v1/runs", responses=example({"runs": [_RUN], "next": "g6Jv…"}))
@needs(Scope.READ)
async def table(
    request: Request,
    filter: Annotated[
        str | None,
        Query(
            max_length=8_192,
            description="Which runs, in the filter language.",
            examples=['metrics.loss.last < 0.3 and params.lr = 0.001 and tags.team = "nlp" and started > "-7d"'],
        ),
    ] = None,
    order: Annotated[
        list[str] | None,
        Query(
            max_length=8,
            description="Fields of the filter language; a `-` in front turns it round.",
            examples=[["-started"]],
        ),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    cursor: Annotated[str | None, Query(max_length=8_192, description="`next` of the page before.")] = None,
    details: Annotated[bool, Query(description="Also the environment and the notes of each run.")] = False,
) -> Response:
    """Runs with their params, the summary of every metric, and tags; by page. `next` is null on the last one."""
    query = RunQuery(filter=filter, order=tuple(order or ()), limit=limit, cursor=cursor)
    backend = service_of(request).backend

    def ask() -> dict[str, Any]:
        page = backend.search(query)
        return {"runs": run_table(backend, page.rows, details=details), "next": page.next}

    try:
        return await answered(request, ask)
    except FilterError as error:
        raise Refusal(
            422,
            f"invalid_{error.field}",
            error.message,
            field=error.field,
            hint=_HINTS[error.field],
            more={"position": error.position, "text": error.text},
        ) from error


@runs.get(
    "/v1/runs/{run:path}",
    responses=example({"run": _RUN, "params": {}, "metrics": {}, "artifacts": [], "delivery": {}}),
)
@needs(Scope.READ)
async def record(request: Request, run: Which) -> Response:
    """The whole record of one run, without its points."""
    backend = service_of(request).backend
    return await answered(request, lambda: run_record(backend, found(backend, run)))


@runs.delete("/v1/runs/{run}", responses=example({"deleted": "0f3c…"}))
@needs(Scope.ADMIN)
async def delete(request: Request, run: Annotated[str, Path(max_length=64, description="An id, whole.")]) -> Response:
    """Remove a run and all that hangs off it. Its files stay until `looptap store gc` finds that no other run needs them."""
    if not await in_thread(service_of(request).backend.delete_run, run):
        raise Refusal(404, "not_found", "there is no run with this id")
    return answer(request, {"deleted": run})


def found(backend: Backend, which: str) -> RunRow:
    """Raises :class:`Refusal` when no run, or more than one, answers to that."""
    try:
        return find_run(backend, which)
    except UnknownRun as error:
        raise Refusal(404, "not_found", str(error), field="run") from error
