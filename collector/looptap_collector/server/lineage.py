"""Questions about files: which run made them, which used them, and what hangs together. Data is in :mod:`.datasets`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import StringConstraints
from starlette.responses import Response

from looptap_collector.backend import Backend, Edge
from looptap_collector.datasets import dataset_fields
from looptap_collector.lineage import graph
from looptap_collector.record import artifact_fields
from looptap_collector.server.access import Scope, needs
from looptap_collector.server.answers import answered, example
from looptap_collector.server.errors import Refusal
from looptap_collector.server.parameters import only_known_parameters
from looptap_collector.server.runs import Which, found
from looptap_collector.server.service import service_of

lineage = APIRouter(tags=["artifacts"], dependencies=[Depends(only_known_parameters)])
Digest = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
Before = Annotated[int | None, Query(ge=1, lt=1 << 63)]
#: Runs and files that one question may name.
MOST_NAMES = 64
_ARTIFACT = {"name": "model.pt", "role": "output", "kind": "model", "size_bytes": 1024, "digest": "9f86…"}


@lineage.get("/v1/runs/{run:path}/artifacts", responses=example({"artifacts": [_ARTIFACT]}))
@needs(Scope.READ)
async def of_run(request: Request, run: Which) -> Response:
    """The files of a run, in the order in which it wrote or read them. `digest` is null where the content could not be
    had, and `missing` then says why."""
    backend = service_of(request).backend

    def ask() -> dict[str, Any]:
        return {"artifacts": [artifact_fields(artifact) for artifact in backend.artifacts(found(backend, run).run)]}

    return await answered(request, ask)


@lineage.get("/v1/models", responses=example({"models": [{"id": 7, "run": "0f3c…", **_ARTIFACT}], "next": None}))
@needs(Scope.READ)
async def models(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    before: Before = None,
) -> Response:
    """Model files, newest first; `next` is the `before` of the next page."""
    return await _edges(request, "models", kind="model", limit=limit, before=before)


@lineage.get("/v1/edges", responses=example({"edges": [{"id": 7, "run": "0f3c…", **_ARTIFACT}], "next": None}))
@needs(Scope.READ)
async def edges(
    request: Request,
    run: Annotated[
        list[str] | None, Query(max_length=MOST_NAMES, description="Only of these runs, by their ids.")
    ] = None,
    artifact: Annotated[
        list[Digest] | None, Query(max_length=MOST_NAMES, description="Only these files, or files with these weights.")
    ] = None,
    role: Annotated[str | None, Query(max_length=64, description="`input` or `output`.")] = None,
    kind: Annotated[str | None, Query(max_length=64, description="`model`, …")] = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    before: Before = None,
) -> Response:
    """Files that runs wrote or read, the latest to arrive first; `next` is the `before` of the next page."""
    narrowed = {"runs": run, "digests": artifact, "role": role, "kind": kind}
    return await _edges(request, "edges", limit=limit, before=before, **narrowed)


@lineage.get(
    "/v1/lineage",
    responses=example(
        {
            "runs": ["0f3c…"],
            "artifacts": ["9f86…"],
            "edges": [{"id": 7, "run": "0f3c…", **_ARTIFACT}],
            "datasets": [],
            "complete": True,
        }
    ),
)
@needs(Scope.READ)
async def connected(
    request: Request,
    run: Annotated[str | None, Query(max_length=512, description="Begin at this run …")] = None,
    artifact: Annotated[Digest | None, Query(description="… or at this file: its SHA-256 in hex.")] = None,
    direction: Annotated[
        Literal["up", "down", "both"], Query(description="`up`: what it was made of; `down`: what was made of it.")
    ] = "both",
    depth: Annotated[int, Query(ge=1, le=32, description="Steps from a run to a file or back.")] = 6,
) -> Response:
    """What led to a run or a file, and what came of it; `datasets` are what these runs were fed with. `complete` is false when
    `depth` or the size of an answer cut it off."""
    if (run is None) == (artifact is None):
        raise Refusal(422, "invalid", "give either run or artifact", field="run")
    backend = service_of(request).backend

    def ask() -> dict[str, Any]:
        start = None if run is None else found(backend, run).run
        drawn = graph(backend, run=start, digest=artifact, direction=direction, depth=depth)
        return {
            "runs": sorted(drawn.runs),
            "artifacts": sorted(drawn.digests),
            "edges": [_fields(edge) for edge in drawn.edges],
            "datasets": [{"run": use.run, **dataset_fields(use.dataset)} for use in drawn.datasets],
            "complete": drawn.complete,
        }

    return await answered(request, ask)


async def _edges(request: Request, name: str, *, limit: int, **more: Any) -> Response:
    backend: Backend = service_of(request).backend

    def ask() -> dict[str, Any]:
        edges = backend.edges(limit=limit, **more)
        following = edges[-1].id if len(edges) == limit else None
        return {name: [_fields(edge) for edge in edges], "next": following}

    return await answered(request, ask)


def _fields(edge: Edge) -> dict[str, Any]:
    return {"id": edge.id, "run": edge.run, **artifact_fields(edge.artifact)}
