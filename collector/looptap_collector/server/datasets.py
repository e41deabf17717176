"""Questions about data: which runs were fed with it, and in what two runs differ there."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from looptap_collector.datasets import MOST_USES, compared, compared_fields, dataset_fields, of_run
from looptap_collector.server.access import Scope, needs
from looptap_collector.server.answers import answered, example
from looptap_collector.server.lineage import MOST_NAMES
from looptap_collector.server.parameters import only_known_parameters
from looptap_collector.server.runs import found
from looptap_collector.server.service import service_of

datasets = APIRouter(tags=["datasets"], dependencies=[Depends(only_known_parameters)])
_RUN = Query(max_length=512, description="An id, the beginning of one, a name, or `latest`.")
_DATASET = {
    "name": "digits",
    "role": "train",
    "kind": "torch",
    "length": 60000,
    "fingerprint": "9f86…",
    "algorithm": "sha256",
    "covers": "names, sizes, mtimes",
    "version": "4bf5…",
}


@datasets.get("/v1/datasets", responses=example({"datasets": [{"run": "0f3c…", **_DATASET}], "complete": True}))
@needs(Scope.READ)
async def uses(
    request: Request,
    run: Annotated[
        list[str] | None, Query(max_length=MOST_NAMES, description="Only of these runs, by their ids.")
    ] = None,
    name: Annotated[str | None, Query(max_length=512, description="Only data of this name.")] = None,
    role: Annotated[str | None, Query(max_length=64, description="`train`, `validation`, `test`, …")] = None,
    fingerprint: Annotated[
        list[str] | None,
        Query(max_length=MOST_NAMES, description="Only this version of the data, under whatever name."),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_USES)] = 1_000,
) -> Response:
    """Which runs were fed with which data, the latest first. `complete` is false when there is more than `limit`."""
    backend = service_of(request).backend

    def ask() -> dict[str, Any]:
        listed = backend.datasets(runs=run, name=name, role=role, fingerprints=fingerprint, limit=limit + 1)
        told = [{"run": use.run, **dataset_fields(use.dataset)} for use in listed[:limit]]
        return {"datasets": told, "complete": len(listed) <= limit}

    return await answered(request, ask)


@datasets.get(
    "/v1/datasets/comparison",
    responses=example(
        {
            "first": "0f3c…",
            "second": "71aa…",
            "datasets": [
                {
                    "role": "train",
                    "name": "digits",
                    "outcome": "different",
                    "fields": ["length"],
                    "first": _DATASET,
                    "second": _DATASET,
                }
            ],
        }
    ),
)
@needs(Scope.READ)
async def comparison(request: Request, first: Annotated[str, _RUN], second: Annotated[str, _RUN]) -> Response:
    """In what the data of two runs differs. `outcome` is `same` or `different` by the fingerprints, `unknown` where there is none
    or they do not cover the same, or that only one of the runs has it; `fields` are those that differ beside."""
    backend = service_of(request).backend

    def ask() -> dict[str, Any]:
        one, other = found(backend, first).run, found(backend, second).run
        told = [compared_fields(item) for item in compared(of_run(backend, one), of_run(backend, other))]
        return {"first": one, "second": other, "datasets": told}

    return await answered(request, ask)
