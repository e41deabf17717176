"""The page and the JSON that it is made of.

========================================  ================================================================
``/``, ``/runs/{run}``                    the two pages (static; a script fills them)
``/api/runs?filter=…``                    the runs, newest first
``/api/runs/{run}``                       the whole record, see :mod:`looptap_collector.record`
``/api/runs/{run}/profile``               what held it back, see :mod:`looptap_collector.profiles`
``/api/runs/{run}/artifacts/{digest}``    the content of one file, as a download
``/api/runs/{run}/histories?series=…``    points of several series by their labels, thinned
========================================  ================================================================

Every string in the JSON is what was stored, unchanged; the page inserts it as text, never as markup.
"""

from __future__ import annotations

import importlib.util
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import msgspec
import numpy as np
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.staticfiles import StaticFiles

from looptap_collector import slowest
from looptap_collector.artifacts import DamagedArtifact
from looptap_collector.backend import Backend, History, RunRow, Unavailable
from looptap_collector.filters import FilterError
from looptap_collector.profiles.profile import profile_of
from looptap_collector.profiles.terminal import cost_line, energy_line
from looptap_collector.query import InJournal, UnknownRun, find_run, found_runs, is_loss, series_labels
from looptap_collector.record import listed, run_list, run_record, series_fields, to_json
from looptap_collector.web.shield import Shield

STATIC = Path(__file__).with_name("static")

#: More series than this in one call would make an answer of many megabytes; the page asks again for the rest.
MOST_SERIES = 64


class Json(Response):
    """JSON that is valid whatever was stored: no NaN, no lone surrogates."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return to_json(content).encode("ascii")


class LazyStore:
    """A store that may not exist yet: the page can be opened before the first run."""

    def __init__(self, open_backend: Callable[[], Backend]) -> None:
        self._open = open_backend
        self._lock = threading.Lock()
        self._backend: Backend | None = None

    def backend(self) -> Backend | None:
        """The opened store, or None as long as there is none."""
        with self._lock:
            if self._backend is None:
                try:
                    self._backend = self._open()
                except FileNotFoundError:
                    return None
            return self._backend

    def close(self) -> None:
        with self._lock:
            if self._backend is not None:
                self._backend.close()
                self._backend = None


@dataclass
class Shown:
    """What the page is made from; in ``app.state.shown``."""

    store: LazyStore
    store_name: str
    in_journal: InJournal | None
    open_artifact: Callable[[str], BinaryIO] | None


def create_app(
    open_backend: Callable[[], Backend],
    *,
    store_name: str = "",
    in_journal: InJournal | None = None,
    open_artifact: Callable[[str], BinaryIO] | None = None,
) -> FastAPI:
    """The page over one store. ``open_backend`` is called at the first question, and again while it raises
    FileNotFoundError; ``store_name`` is only shown. ``open_artifact`` gives the content of a digest or
    raises KeyError; without it nothing can be downloaded. The caller closes ``app.state.shown.store``."""
    app = FastAPI(title="looptap", docs_url=None, redoc_url=None, openapi_url="/api/openapi.json")
    app.state.shown = Shown(LazyStore(open_backend), store_name, in_journal, open_artifact)
    app.add_middleware(Shield)
    app.add_exception_handler(Unavailable, _unavailable)
    app.include_router(pages)
    app.mount("/static", StaticFiles(directory=STATIC))
    return app


pages = APIRouter()


def _unavailable(request: Request, error: Exception) -> Response:
    return JSONResponse({"detail": str(error)}, 503)


def _shown(request: Request) -> Shown:
    shown = request.app.state.shown
    assert isinstance(shown, Shown)
    return shown


def _one_run(request: Request, run: str) -> tuple[Backend, RunRow]:
    backend = _shown(request).store.backend()
    if backend is None:
        raise HTTPException(404, "there is no store yet")
    try:
        return backend, find_run(backend, run)
    except UnknownRun as error:
        raise HTTPException(404, str(error)) from error


Found = Annotated[tuple[Backend, RunRow], Depends(_one_run)]


@pages.get("/api/runs", response_class=Json)
def runs(
    request: Request,
    experiment: str | None = None,
    filter: Annotated[str | None, Query(max_length=8_192)] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 500,
) -> Response:
    """``store`` (its name) and ``runs``, newest first. What cannot be understood of a ``filter`` is its ``mistake``: ``message``
    and ``position``; it is no error, since people see it while they type."""
    shown = _shown(request)
    backend = shown.store.backend()
    if backend is None:
        return Json({"store": shown.store_name, "runs": []})
    if filter is None:
        return Json({"store": shown.store_name, "runs": run_list(backend, experiment=experiment, limit=limit)})
    try:
        found = listed(backend, list(found_runs(backend, filter, limit=limit)))
    except FilterError as error:
        mistake = {"message": error.message, "position": error.position}
        return Json({"store": shown.store_name, "runs": [], "mistake": mistake})
    return Json({"store": shown.store_name, "runs": found})


@pages.get("/api/runs/{run}", response_class=Json)
def record(request: Request, found: Found) -> Response:
    """The whole record of one run; each metric also says whether it ``is_loss``. Among them is what
    :mod:`looptap_collector.slowest` makes of the times of several ranks."""
    backend, row = found
    answer = run_record(backend, row, _shown(request).in_journal)
    for metric in answer["metrics"].values():
        metric["is_loss"] = is_loss(metric["key"])
    sources = slowest.Sources(backend.series([row.run]))
    for key in slowest.KEYS if sources.tell else ():
        made = series_fields(slowest.summary(row.run, key, sources)) | {"last": None, "is_loss": False}
        answer["metrics"].setdefault(key, made)
    return Json(answer)


@pages.get("/api/runs/{run}/profile", response_class=Json)
def profile(found: Found) -> Response:
    """The profile of one run; each fact also as people say it (``said``), and so energy and cost (``lines``)."""
    made = profile_of(*found)
    answer = msgspec.to_builtins(made)
    for finding, told in zip(made.findings, answer["findings"], strict=True):
        for fact, fields in zip(finding.facts, told["facts"], strict=True):
            fields["said"] = fact.said()
    return Json(answer | {"lines": [line for line in (energy_line(made), cost_line(made)) if line]})


@pages.get("/api/runs/{run}/histories", response_class=Json)
def histories(
    found: Found,
    series: Annotated[list[str], Query(max_length=MOST_SERIES)],
    points: Annotated[int, Query(ge=16, le=20_000)] = 2_000,
) -> Response:
    """``series`` by label: ``count`` of all its points, and at most ``points`` of them as ``steps``, ``values`` and
    ``odd`` (:func:`chart_points`)."""
    backend, row = found
    rows = backend.series([row.run])
    by_label = dict(zip(series_labels(rows), rows, strict=True))
    answer: dict[str, dict[str, Any]] = {}
    for label in series:
        if label in slowest.KEYS and label not in by_label and (sources := slowest.Sources(rows)).tell:
            made = slowest.history(backend, row.run, label, points=points, sources=sources)
            answer[label] = {"count": sources.count(), **chart_points(made)}
            continue
        if label not in by_label:
            raise HTTPException(404, f"the run has no series {label!r}")
        known = by_label[label]
        chart = backend.chart(row.run, known.key, known.context, points=points)
        answer[label] = {"count": known.count, **chart_points(chart)}
    return Json({"series": answer})


@pages.get("/api/runs/{run}/artifacts/{digest}", response_class=Response)
def artifact(request: Request, found: Found, digest: str) -> Response:
    """The content of a file of the run. Always a download: nothing that a run stored is ever opened as a page."""
    backend, row = found
    names = [item.name for item in backend.artifacts(row.run) if item.digest == digest]
    open_artifact = _shown(request).open_artifact
    if not names or open_artifact is None:
        raise HTTPException(404, "the run has no such file")
    try:
        content = open_artifact(digest)
    except KeyError as error:
        raise HTTPException(404, "the content of this file is not in the store") from error
    except DamagedArtifact as error:
        raise HTTPException(500, str(error)) from error
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", names[0].replace("\\", "/").rpartition("/")[2]).strip(".-") or "file"
    headers = {"content-disposition": f'attachment; filename="{name}"', "content-security-policy": "sandbox"}
    return StreamingResponse(_blocks(content), media_type="application/octet-stream", headers=headers)


def _blocks(content: BinaryIO) -> Iterator[bytes]:
    with content:
        while block := content.read(1 << 20):
            yield block


@pages.get("/favicon.ico", include_in_schema=False)
def favicon() -> Response:
    return FileResponse(STATIC / "favicon.svg", media_type="image/svg+xml")


@pages.get("/static/plotly.min.js", include_in_schema=False)
def plotly() -> Response:
    # Served from the installed package: no CDN, works without a network.
    return FileResponse(plotly_script(), media_type="text/javascript", headers={"cache-control": "max-age=86400"})


@pages.get("/", include_in_schema=False)
def runs_page() -> Response:
    return FileResponse(STATIC / "runs.html", media_type="text/html")


@pages.get("/runs/{run}", include_in_schema=False)
def run_page(request: Request, run: str) -> Response:
    """404 for a run that is not there (yet), with the same page: its script says so, and finds the run once it comes."""
    try:
        _one_run(request, run)
    except HTTPException as missing:
        return FileResponse(STATIC / "run.html", missing.status_code, media_type="text/html")
    return FileResponse(STATIC / "run.html", media_type="text/html")


def chart_points(history: History) -> dict[str, Any]:
    """``steps`` and ``values`` of one length. A value that is not finite is None (a gap in the line), and
    ``odd`` lists its place and what it was."""
    finite = np.isfinite(history.values)
    odd = np.flatnonzero(~finite).tolist()
    values: list[float | None] = history.values.tolist()
    named = [[index, values[index]] for index in odd]
    for index in odd:
        values[index] = None
    return {"steps": history.steps.tolist(), "values": values, "odd": named}


def plotly_script() -> Path:
    """``plotly.min.js`` of the installed plotly package, found without importing it (0.3 s)."""
    spec = importlib.util.find_spec("plotly")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("the charts need plotly: pip install 'looptap[collector]'", name="plotly")
    return Path(spec.origin).parent / "package_data" / "plotly.min.js"
