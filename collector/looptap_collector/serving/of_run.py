"""What a run has served, in a few numbers, for those who look at runs; ``looptap serving`` looks at models."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

import msgspec

from looptap.sketches import histogram
from looptap.sketches.histogram import Histogram
from looptap_collector.backend import Backend, RunRow, WindowQuery
from looptap_collector.serving.origins import origin_of
from looptap_collector.serving.summary import merge_times

#: Quantiles are those of so many windows of the run, the latest: an hour or more.
LATEST = 1_000


class ServedModel(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a model, as one run has served it. ``trained_by``: the name of the run that wrote it, and ``trained_by_id``;
    None where none is known. ``p50`` and ``p99``: seconds of whole requests, in the latest windows of the run (:data:`LATEST`). The
    windows in which it was asked began from ``first_ns`` to ``last_ns``."""

    model: str
    version: str | None
    trained_by: str | None
    trained_by_id: str | None
    requests: int
    errors: int
    error_rate: float
    p50: float | None
    p99: float | None
    first_ns: int
    last_ns: int


COLUMNS = ServedModel.__struct_fields__


@runtime_checkable
class Serves(Protocol):
    """A backend that says it itself: it is far away, and the windows are there."""

    def serves(self, run: str) -> list[ServedModel]: ...


def served_by(backend: Backend, run: str) -> list[ServedModel]:
    """Sorted by model and version."""
    if isinstance(backend, Serves):
        return backend.serves(run)
    served = backend.served(runs=[run])
    if not served:
        return []
    totals: dict[tuple[str, str | None], Histogram] = {}
    known: dict[tuple[str, str | None], set[str]] = {}
    for window in (one.window for one in backend.windows(WindowQuery(runs=(run,), limit=LATEST))):
        which = (window.model, window.version)
        known.setdefault(which, set()).update(filter(None, (window.digest, window.weights)))
        if "total" in window.latency:
            merge_times(totals.setdefault(which, Histogram()), histogram.told(window.latency["total"]))
    found = []
    for one in served:
        which = (one.model, one.version)
        origin = origin_of(backend, *sorted(known.get(which, ())), one.version)
        total = totals.get(which, Histogram())
        found.append(
            ServedModel(
                model=one.model,
                version=one.version,
                trained_by=None if origin is None else origin.name,
                trained_by_id=None if origin is None else origin.run,
                requests=one.requests,
                errors=one.errors,
                error_rate=one.errors / one.requests,
                p50=total.quantile(0.5),
                p99=total.quantile(0.99),
                first_ns=one.first_ns,
                last_ns=one.last_ns,
            )
        )
    return found


def models_of(backend: Backend, runs: Iterable[RunRow]) -> dict[str, list[str]]:
    """Of those that serve: by run, the names of the models that it was asked for."""
    return {
        run.run: sorted({one.model for one in backend.served(runs=[run.run]) if one.model})
        for run in runs
        if run.kind == "serving"
    }
