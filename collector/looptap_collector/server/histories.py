"""Questions about points."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from looptap_collector import slowest
from looptap_collector.backend import History, SeriesRow
from looptap_collector.query import series_label
from looptap_collector.server.access import Scope, needs
from looptap_collector.server.answers import answered, example, wants_msgpack
from looptap_collector.server.errors import Refusal
from looptap_collector.server.parameters import only_known_parameters
from looptap_collector.server.runs import found
from looptap_collector.server.service import service_of

histories = APIRouter(tags=["points"], dependencies=[Depends(only_known_parameters)])
MOST_SERIES = 64
MOST_POINTS = 1_000_000
_WORD = 1 << 63
_Step = Query(ge=-_WORD, lt=_WORD)


@histories.get(
    "/v1/histories",
    responses=example(
        {
            "histories": [
                {
                    "run": "0f3c…",
                    "key": "loss",
                    "context": {},
                    "count": 3,
                    "steps": [0, 1, 2],
                    "times_ns": [1800000000000000000, 1800000000001000000, 1800000000002000000],
                    "values": [2.3, "NaN", 1.9],
                }
            ]
        }
    ),
)
@needs(Scope.READ)
async def several(
    request: Request,
    run: Annotated[list[str], Query(min_length=1, max_length=MOST_SERIES, description="Runs, as in /v1/runs/{run}.")],
    key: Annotated[
        list[str],
        Query(
            min_length=1, max_length=MOST_SERIES, description="Metrics: `loss` (in every context), or `lr{group=1}`."
        ),
    ],
    points: Annotated[
        int | None, Query(ge=7, le=20_000, description="At most so many of each series; without it, all.")
    ] = None,
    first_step: Annotated[int | None, _Step] = None,
    last_step: Annotated[int | None, _Step] = None,
    context: Annotated[
        str | None,
        Query(max_length=8_192, description='Only series of exactly this context: `{"group": "1"}`, or `{}` for none.'),
    ] = None,
) -> Response:
    """Points of several metrics of several runs, in order of step.

    With `points`, each series is thinned: its first and last point stay, and of each stretch the smallest, the largest, and
    one each of NaN, +Inf and -Inf where it has them. A metric that a run does not have is left out. With
    `Accept: application/x-msgpack` the columns are little-endian arrays of 8 bytes an item. Without `points`, one answer has
    a million points at most, unless they are all of one step. Of a run of several processes, `slowest_rank` and
    `slowest_rank_lag` (seconds behind the median of the others) are made from the times of its ranks.
    """
    backend = service_of(request).backend
    bounds = (
        None
        if first_step is None and last_step is None
        else (
            -_WORD if first_step is None else first_step,
            _WORD - 1 if last_step is None else last_step,
        )
    )

    wanted, wanted_context = set(key), _context(context)

    def is_wanted(row: SeriesRow) -> bool:
        if wanted_context is not None:
            return row.key in wanted and row.context == wanted_context
        return row.key in wanted or series_label(row.key, row.context) in wanted

    derived_keys = [name for name in slowest.KEYS if name in wanted] if not wanted_context else []

    def derived(series: Sequence[SeriesRow]) -> Iterator[tuple[SeriesRow, History]]:
        """What is made from the times of the ranks, where the run has no series of that name itself."""
        for of_run in {row.run: None for row in series}:
            own = [row for row in series if row.run == of_run]
            sources = slowest.Sources(own)
            if not sources.tell:
                continue
            for name in derived_keys:
                if all(row.key != name for row in own):
                    history = slowest.history(backend, of_run, name, points=points, steps=bounds, sources=sources)
                    yield slowest.summary(of_run, name, sources), history

    def ask() -> list[tuple[SeriesRow, History]]:
        ids = [found(backend, which).run for which in run]
        series = backend.series(ids)
        answered = stored([row for row in series if is_wanted(row)])
        if derived_keys:
            answered += derived(series)
            if points is None and sum(len(history.steps) for _, history in answered) > MOST_POINTS:
                raise _too_many()
        return answered

    def stored(rows: list[SeriesRow]) -> list[tuple[SeriesRow, History]]:
        if len(rows) > MOST_SERIES:
            raise Refusal(
                422, "too_many", f"these are {len(rows)} series; one answer has {MOST_SERIES} at most", field="key"
            )
        if points is not None:
            return [(row, backend.chart(row.run, row.key, row.context, points=points, steps=bounds)) for row in rows]
        if bounds is None and sum(row.count for row in rows) > MOST_POINTS:
            raise _too_many()
        answered, total = [], 0
        for row in rows:
            history = backend.history(row.run, row.key, row.context, steps=bounds)
            answered.append((row, history))
            total += len(history.steps)
            # What is all of one step has no smaller part to ask for.
            if total > MOST_POINTS and any(len(one.steps) and one.steps[0] < one.steps[-1] for _, one in answered):
                raise _too_many()
        return answered

    write = _columns if wants_msgpack(request) else _lists

    def told() -> dict[str, Any]:
        return {
            "histories": [
                {"run": row.run, "key": row.key, "context": dict(row.context), "count": row.count, **write(history)}
                for row, history in ask()
            ]
        }

    return await answered(request, told)


def _context(text: str | None) -> dict[str, str] | None:
    try:
        return None if text is None else msgspec.json.decode(text, type=dict[str, str])
    except msgspec.MsgspecError as error:
        raise Refusal(422, "invalid", f"context: {error}", field="context") from error


def _too_many() -> Refusal:
    return Refusal(
        422,
        "too_many",
        f"these are more than {MOST_POINTS} points",
        field="points",
        hint="give points=… for a chart, or first_step and last_step for a (smaller) part",
    )


def _lists(history: History) -> dict[str, Any]:
    return {
        "steps": history.steps.tolist(),
        "times_ns": history.times_ns.tolist(),
        "values": history.values.tolist(),
    }


def _columns(history: History) -> dict[str, Any]:
    return {
        "steps": np.ascontiguousarray(history.steps, "<i8").tobytes(),
        "times_ns": np.ascontiguousarray(history.times_ns, "<i8").tobytes(),
        "values": np.ascontiguousarray(history.values, "<f8").tobytes(),
    }
