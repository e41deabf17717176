"""What changes, as it changes: server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response, StreamingResponse

from looptap_collector.backend import Backend
from looptap_collector.query import series_labels
from looptap_collector.record import run_fields, series_fields, to_json
from looptap_collector.server.access import Scope, needs
from looptap_collector.server.parameters import only_known_parameters
from looptap_collector.server.runs import found
from looptap_collector.server.service import caller_of, in_thread, service_of

live = APIRouter(tags=["runs"], dependencies=[Depends(only_known_parameters)])
_PAUSE_SECONDS = 1.0
_SILENT_ROUNDS = 15
_Seen = dict[str, str]


@live.get(
    "/v1/live",
    response_class=Response,
    responses={
        200: {
            "content": {
                "text/event-stream": {
                    "example": 'event: run\ndata: {"id": "0f3c…", "status": "running"}\n\n'
                    'event: metric\ndata: {"run": "0f3c…", "label": "loss", "count": 12, "last": 0.4}\n\n'
                }
            }
        }
    },
)
@needs(Scope.READ)
async def updates(
    request: Request,
    run: Annotated[list[str], Query(min_length=1, max_length=16, description="Runs, as in /v1/runs/{run}.")],
) -> Response:
    """The state of these runs and the summary of each metric at once, and from then on whatever changes, about once a second:
    events `run` and `metric`. The stream ends when all of the runs have ended."""
    service = service_of(request)
    ids = await in_thread(lambda: [found(service.backend, which).run for which in run])
    who = caller_of(request).name
    service.streams.take(who)

    async def stream() -> AsyncIterator[str]:
        try:
            seen: _Seen = {}
            silent = 0
            while True:
                events, over = await in_thread(_changes, service.backend, ids, seen)
                for event in events:
                    yield event
                if over:
                    return
                silent = 0 if events else silent + 1
                if silent % _SILENT_ROUNDS == _SILENT_ROUNDS - 1:
                    yield ": still here\n\n"
                await asyncio.sleep(_PAUSE_SECONDS)
        finally:
            service.streams.give_back(who)

    return StreamingResponse(stream(), media_type="text/event-stream")


def _changes(backend: Backend, ids: list[str], seen: _Seen) -> tuple[list[str], bool]:
    """Events for what is not as ``seen`` says (which is brought up to date), and whether all runs are over."""
    events = []
    over = True

    def tell(kind: str, name: str, content: dict[str, object]) -> None:
        text = to_json(content)
        if seen.get(name) != text:
            seen[name] = text
            events.append(f"event: {kind}\ndata: {text}\n\n")

    for run in ids:
        row = backend.run(run)
        if row is None:
            continue
        # In this order: a run that has ended has all its points.
        rows = backend.series([run])
        tell("run", run, run_fields(row))
        for label, series in zip(series_labels(rows), rows, strict=True):
            tell("metric", f"{run} {label}", {"run": run, "label": label, **series_fields(series)})
        over = over and row.status not in ("running", "lost")
    return events, over
