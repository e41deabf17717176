"""A collector's store as a :class:`looptap_collector.backend.Backend` that can only be read.

What comes back is what a backend on the collector's machine would give, to the last bit.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from looptap.events import Alert, Artifact, Context, Dataset
from looptap_collector.backend import (
    MOST_ALERTS,
    AlertCount,
    Arrival,
    Compaction,
    DatasetUse,
    Delivery,
    Edge,
    ExperimentRow,
    History,
    MergedWindows,
    Outcome,
    ParamRow,
    Rejected,
    RunAlert,
    RunPage,
    RunQuery,
    RunRow,
    RunWindow,
    SeriesRow,
    Served,
    WindowQuery,
)
from looptap_collector.backends.slices import slices
from looptap_collector.filters import narrowed
from looptap_collector.filters.literals import quoted
from looptap_collector.profiles.shapes import Profile
from looptap_collector.query import UnknownRun, can_be_stored, found_runs, look_for_run
from looptap_collector.remote import windows as remote_windows
from looptap_collector.remote.aside import Aside
from looptap_collector.remote.asking import NotThere, Questions, can_be_in_path
from looptap_collector.remote.points import STEPS, Bounds, Histories, TooMany, in_ranges
from looptap_collector.remote.shapes import Listed, Page, Record
from looptap_collector.serving.of_run import ServedModel

if TYPE_CHECKING:
    from looptap.exchange import Exchange

#: Names in one question; the head of a request has an end.
_NAMES_AT_ONCE = 50
_EDGES_AT_ONCE = 1_000
_USES_AT_ONCE = 10_000


class Experiment(msgspec.Struct):
    name: str
    runs: int
    newest_ns: int


class Experiments(msgspec.Struct):
    experiments: list[Experiment]


class EdgeFields(Artifact, frozen=True, kw_only=True):
    id: int
    run: str

    def edge(self) -> Edge:
        return Edge(self.id, self.run, Artifact(**{name: getattr(self, name) for name in Artifact.__struct_fields__}))


class Edges(msgspec.Struct):
    edges: list[EdgeFields]


class UseFields(Dataset, frozen=True, kw_only=True):
    run: str
    version: str | None

    def use(self) -> DatasetUse:
        return DatasetUse(self.run, Dataset(**{name: getattr(self, name) for name in Dataset.__struct_fields__}))


class Uses(msgspec.Struct):
    datasets: list[UseFields]
    complete: bool


class AlertFields(Alert, frozen=True, kw_only=True):
    run: str

    def alert(self) -> RunAlert:
        return RunAlert(self.run, Alert(**{name: getattr(self, name) for name in Alert.__struct_fields__}))


class Alerts(msgspec.Struct):
    alerts: list[AlertFields]
    complete: bool


class Position(msgspec.Struct):
    next: int


class RemoteBackend:
    """Raises :class:`~looptap_collector.backend.Unavailable` when the collector cannot be asked, or does not let us in; the
    message says why in one line. Closes the exchange with itself."""

    def __init__(self, exchange: Exchange) -> None:
        """``exchange`` may be used by several threads."""
        self._questions = Questions(exchange)
        self._aside = Aside()

    # Runs

    def find_run(self, which: str) -> RunRow:
        """See :func:`looptap_collector.query.find_run`. One question."""
        if not can_be_stored(which) or not can_be_in_path(which):
            return look_for_run(self, which)
        try:
            record = self._questions.ask(Record, "runs", which)
        except NotThere as error:
            raise UnknownRun(str(error)) from None
        self._aside.lay(record.run.id, record.parts())
        return record.row()

    def run(self, run: str) -> RunRow | None:
        found = self._listed([run], details=True)
        for listed in found:
            self._aside.lay(listed.id, listed.parts())
        return found[0].row() if found else None

    def runs(
        self, *, experiment: str | None = None, status: str | None = None, limit: int | None = None
    ) -> Sequence[RunRow]:
        return list(found_runs(self, narrowed(None, experiment=experiment, status=status), limit=limit))

    def search(self, query: RunQuery) -> RunPage:
        asked = msgspec.structs.asdict(query) | {"details": True}
        page = self._questions.ask(Page, "runs", **asked)
        for listed in page.runs:
            self._aside.lay(listed.id, listed.parts())
        return RunPage(tuple(listed.row() for listed in page.runs), page.next)

    def experiments(self) -> Sequence[ExperimentRow]:
        found = self._questions.ask(Experiments, "experiments").experiments
        return [ExperimentRow(one.name, one.runs, one.newest_ns) for one in found]

    # Parts of one run

    def params(self, run: str, *, revisions: bool = False) -> Sequence[ParamRow]:
        found: list[ParamRow] = self._part(run, "params") or []
        return found if revisions else list({row.key: row for row in found}.values())

    def tags(self, run: str) -> dict[str, str]:
        return self._part(run, "tags") or {}

    def artifacts(self, run: str) -> Sequence[Artifact]:
        return self._part(run, "artifacts") or []

    def delivery(self, run: str) -> Sequence[Delivery]:
        return self._part(run, "delivery") or []

    def serves(self, run: str) -> list[ServedModel]:
        """See :class:`looptap_collector.serving.of_run.Serves`."""
        return self._part(run, "serves") or []

    def _part(self, run: str, part: str) -> Any:
        """None when there is no such run."""
        content = self._aside.take(run, part)
        if content is not None:
            return content
        try:
            record = self._questions.ask(Record, "runs", run)
        except NotThere:
            return None
        if record.run.id != run:  # it is only called like that
            return None
        parts = record.parts()
        content = parts.pop(part)
        self._aside.lay(run, parts)
        return content

    # Parts of several runs

    def series(self, runs: Sequence[str]) -> Sequence[SeriesRow]:
        found = self._parts(sorted(set(runs)), "series")
        return [row for rows in found.values() for row in rows or []]

    def current_params(self, runs: Sequence[str]) -> dict[str, dict[str, object]]:
        return {run: content or {} for run, content in self._parts(runs, "current_params").items()}

    def current_tags(self, runs: Sequence[str]) -> dict[str, dict[str, str]]:
        return {run: content or {} for run, content in self._parts(runs, "tags").items()}

    def alert_counts(self, runs: Sequence[str]) -> dict[str, AlertCount]:
        return {run: count or AlertCount() for run, count in self._parts(runs, "alert_counts").items()}

    def _parts(self, runs: Sequence[str], part: str) -> dict[str, Any]:
        """By run, in this order; None for runs that are not there."""
        found = {run: self._aside.take(run, part) for run in runs}
        for listed in self._listed([run for run, content in found.items() if content is None]):
            parts = listed.parts()
            found[listed.id] = parts.pop(part)
            self._aside.lay(listed.id, parts)
        return found

    def _listed(self, runs: Iterable[str], *, details: bool = False) -> list[Listed]:
        found: list[Listed] = []
        for some in slices((run for run in runs if can_be_stored(run)), _NAMES_AT_ONCE):
            chosen = f"id in ({', '.join(map(quoted, some))})"
            found += self._questions.ask(Page, "runs", filter=chosen, limit=len(some), details=details).runs
        return found

    # Points

    def history(self, run: str, key: str, context: Context, *, steps: Bounds | None = None) -> History:
        try:
            return self._points(run, key, context, steps)
        except TooMany:
            known = [row for row in self.series([run]) if row.key == key and row.context == context]
            if not known:
                raise KeyError(_no_series(run, key, context)) from None
            return in_ranges(lambda bounds: self._points(run, key, context, bounds), known[0], steps or STEPS)

    def chart(self, run: str, key: str, context: Context, *, points: int, steps: Bounds | None = None) -> History:
        return self._points(run, key, context, steps, points)

    def _points(self, run: str, key: str, context: Context, steps: Bounds | None, points: int | None = None) -> History:
        first, last = steps or (None, None)
        try:
            found = self._questions.ask(
                Histories,
                "histories",
                run=run,
                key=key,
                context=json.dumps(context),
                first_step=first,
                last_step=last,
                points=points,
            ).histories
        except NotThere:
            found = []
        for columns in found:
            if (columns.run, columns.key, columns.context) == (run, key, context):
                return columns.history()
        raise KeyError(_no_series(run, key, context))

    def profile(self, run: str, *, price_per_hour: float | None, grid_kg_per_kwh: float | None) -> Profile:
        """See :class:`looptap_collector.profiles.profile.Profiles`."""
        given = {"price_per_hour": price_per_hour, "grid_kg_per_kwh": grid_kg_per_kwh}
        return self._questions.ask(Profile, "runs", run, "profile", **given)

    # Files

    def edges(
        self,
        *,
        runs: Sequence[str] | None = None,
        digests: Sequence[str] | None = None,
        role: str | None = None,
        kind: str | None = None,
        before: int | None = None,
        limit: int = 1_000,
    ) -> Sequence[Edge]:
        found: list[Edge] = []
        for some_runs in [None] if runs is None else slices(runs, _NAMES_AT_ONCE):
            for some_digests in [None] if digests is None else slices(digests, _NAMES_AT_ONCE):
                pages = self._edges(run=some_runs, artifact=some_digests, role=role, kind=kind, before=before)
                found += islice(pages, limit)
        return sorted(found, key=lambda edge: -edge.id)[:limit]

    def _edges(self, *, before: int | None, **narrowed_by: Any) -> Iterator[Edge]:
        while True:
            page = self._questions.ask(Edges, "edges", before=before, limit=_EDGES_AT_ONCE, **narrowed_by).edges
            for fields in page:
                yield fields.edge()
            if len(page) < _EDGES_AT_ONCE:
                return
            before = page[-1].id

    # Data

    def datasets(
        self,
        *,
        runs: Sequence[str] | None = None,
        name: str | None = None,
        role: str | None = None,
        fingerprints: Sequence[str] | None = None,
        limit: int = 1_000,
    ) -> Sequence[DatasetUse]:
        if runs is not None and len(runs) == 1 and (name, role, fingerprints) == (None, None, None):
            told = self._part(runs[0], "datasets") or []
            found = [DatasetUse(runs[0], dataset) for dataset in told]
        else:
            found = []
            for some_runs in [None] if runs is None else slices(runs, _NAMES_AT_ONCE):
                for some_prints in [None] if fingerprints is None else slices(fingerprints, _NAMES_AT_ONCE):
                    asked = {"run": some_runs, "name": name, "role": role, "fingerprint": some_prints}
                    page = self._questions.ask(Uses, "datasets", limit=max(1, min(limit, _USES_AT_ONCE)), **asked)
                    found += [fields.use() for fields in page.datasets]
        return sorted(found, key=lambda use: (-use.dataset.time_ns, use.run, use.dataset.role, use.dataset.name))[
            :limit
        ]

    # Alerts

    def alerts(
        self, *, runs: Sequence[str] | None = None, kind: str | None = None, limit: int = 1_000
    ) -> Sequence[RunAlert]:
        found: list[RunAlert] = []
        if runs is not None and len(runs) == 1 and kind is None:
            found = [RunAlert(runs[0], alert) for alert in reversed(self._part(runs[0], "alerts") or [])]
        else:
            for some in [None] if runs is None else slices(sorted(set(runs)), _NAMES_AT_ONCE):
                asked = {"run": some, "kind": kind, "limit": max(1, min(limit, MOST_ALERTS))}
                found += [fields.alert() for fields in self._questions.ask(Alerts, "alerts", **asked).alerts]
        return sorted(found, key=lambda one: (-one.alert.time_ns, one.run))[:limit]

    # Windows

    def windows(self, query: WindowQuery) -> Sequence[RunWindow]:
        return remote_windows.found(self._questions, query)

    def served(
        self, *, since_ns: int | None = None, until_ns: int | None = None, runs: Sequence[str] | None = None
    ) -> Sequence[Served]:
        return remote_windows.served(self._questions, runs, since_ns=since_ns, until_ns=until_ns)

    # Journals

    def position(self, journal: str) -> int:
        return self._questions.ask(Position, "journals", journal).next

    def close(self) -> None:
        self._questions.close()

    # What changes something

    def write(self, arrivals: Sequence[Arrival]) -> list[Outcome | Rejected]:
        _only_read()

    def set_status(self, run: str, status: str, *, ended_ns: int | None, error: str | None = None) -> None:
        _only_read()

    def delete_run(self, run: str) -> bool:
        _only_read()

    def compact(self, *, run: str | None = None, at_least: int = 1, within_s: float | None = None) -> Compaction:
        _only_read()

    def merge_windows(self, *, run: str | None = None, within_s: float | None = None) -> MergedWindows:
        _only_read()

    def referenced(self) -> Iterator[str]:
        _only_read()


def _no_series(run: str, key: str, context: Context) -> str:
    return f"run {run!r} has no series {key!r} with context {context!r}"


def _only_read() -> NoReturn:
    raise io.UnsupportedOperation("a collector's store is only read from here; its upkeep is done on its own machine")
