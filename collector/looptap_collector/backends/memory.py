"""A store in memory: the protocol in its plainest form, and the half of a backend that keeps a list of changes elsewhere.

Batches are kept as they came, and every question reads them through. Whoever wants to keep them somewhere (a file, a log, a
queue) overrides two methods: :meth:`MemoryBackend.held`, to replay what is new there before anything is read or decided, and
:meth:`MemoryBackend.keep`, to add a change. ``examples/backends/one_file.py`` does so.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

import msgspec

from looptap.events import Alert, Artifact, Batch, Context, Dataset, Note, Param, Rejected, Tag, Window
from looptap_collector.backend import (
    Arrival,
    Backend,
    DatasetUse,
    Delivery,
    Edge,
    History,
    Outcome,
    ParamRow,
    RunAlert,
    RunRow,
    RunWindow,
    SeriesRow,
    TokenRow,
    WindowQuery,
)
from looptap_collector.backends.outlines import in_order
from looptap_collector.backends.summaries import Points, Summary, columns_by_series, context_text, joined
from looptap_collector.edges import changes
from looptap_collector.judging import RunState, Standing
from looptap_collector.windows import supersedes, window_order

R = TypeVar("R")


class Concluded(msgspec.Struct, frozen=True):
    """What others found out about a run that can no longer speak for itself."""

    run: str
    status: str
    ended_ns: int | None
    error: str | None


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """What happens to a store at once: batches that were taken, or one of the others."""

    arrivals: tuple[Arrival, ...] = ()
    concluded: Concluded | None = None
    deleted: str | None = None
    token: TokenRow | None = None


class MemoryBackend(Backend):
    """See :class:`looptap_collector.backend.Store`."""

    place = "memory"

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._standing = Standing()
        self._batches: dict[str, list[Batch]] = {}
        self._edges: list[Edge] = []
        self._last_edge = 0
        self._tokens: dict[str, TokenRow] = {}

    @contextmanager
    def held(self, *, to_change: bool = False) -> Iterator[None]:
        """Nobody else changes the store meanwhile, and all that others changed is here. Not to be entered twice."""
        with self._lock:
            yield

    def keep(self, change: Change) -> None:
        """Add a change to the store, so that it is there for good, or raise and have changed nothing."""
        self.replay(change)

    def replay(self, change: Change) -> None:
        """Bring the memory up to date. The same changes in the same order make the same memory."""
        for arrival in change.arrivals:
            if self._standing.judge(arrival) is Outcome.STORED:
                batch = arrival.batch
                self._batches.setdefault(batch.run, []).append(batch)
                self._add_edges(batch.run, [record for record in batch.records if isinstance(record, Artifact)])
        if (told := change.concluded) is not None:
            run = self._standing.runs.get(told.run)
            if run is not None and not run.told_end:
                run.status, run.ended_ns, run.error = told.status, told.ended_ns, told.error
        if (gone := change.deleted) is not None:
            del self._standing.runs[gone], self._batches[gone]
            for journal in [name for name, entry in self._standing.ledgers.items() if entry.run == gone]:
                del self._standing.ledgers[journal]
            self._edges = [edge for edge in self._edges if edge.run != gone]
        if change.token is not None:
            self._tokens[change.token.id] = change.token

    # Changes

    def write(self, arrivals: Sequence[Arrival]) -> list[Outcome | Rejected]:
        answers: list[Outcome | Rejected] = []
        taken: list[Arrival] = []
        with self.held(to_change=True):
            standing = self._standing.copy_for(arrivals)
            for arrival in arrivals:
                try:
                    columns_by_series(arrival.batch)
                    answer = standing.judge(arrival)
                except Rejected as refusal:
                    answers.append(refusal)
                    continue
                answers.append(answer)
                taken.append(arrival if answer is Outcome.STORED else _news(arrival))
            if taken:
                self.keep(Change(arrivals=tuple(taken)))
        return answers

    def set_status(self, run: str, status: str, *, ended_ns: int | None, error: str | None = None) -> None:
        with self.held(to_change=True):
            self.keep(Change(concluded=Concluded(run, status, ended_ns, error)))

    def delete_run(self, run: str) -> bool:
        with self.held(to_change=True):
            if run not in self._standing.runs:
                return False
            self.keep(Change(deleted=run))
        return True

    # Reading

    def delivery(self, run: str) -> Sequence[Delivery]:
        with self.held():
            entries = [entry for _, entry in sorted(self._standing.ledgers.items()) if entry.run == run]
            return [
                Delivery(
                    entry.journal,
                    run,
                    entry.next,
                    entry.stored,
                    dict(entry.dropped),
                    entry.rank,
                    entry.status,
                    entry.ended_ns,
                    entry.error,
                )
                for entry in entries
            ]

    def position(self, journal: str) -> int:
        with self.held():
            entry = self._standing.ledgers.get(journal)
            return 0 if entry is None else entry.next

    def runs(
        self, *, experiment: str | None = None, status: str | None = None, limit: int | None = None
    ) -> Sequence[RunRow]:
        with self.held():
            rows = [self._row(run) for run in self._standing.runs.values()]
        rows = [row for row in rows if experiment in (None, row.experiment) and status in (None, row.status)]
        return sorted(rows, key=lambda row: (row.started_ns, row.run), reverse=True)[:limit]

    def run(self, run: str) -> RunRow | None:
        with self.held():
            return self._row(self._standing.runs[run]) if run in self._standing.runs else None

    def params(self, run: str, *, revisions: bool = False) -> Sequence[ParamRow]:
        found: dict[str, list[ParamRow]] = {}
        with self.held():
            told = self._told(run, Param)
        for param in told:
            rows = found.setdefault(param.key, [])
            # Compared as text, 1 and 1.0 and true are different.
            if not rows or json.dumps(rows[-1].value) != json.dumps(param.value):
                rows.append(ParamRow(param.key, param.value, param.source, len(rows), param.time_ns))
        return [row for _, rows in sorted(found.items()) for row in (rows if revisions else rows[-1:])]

    def tags(self, run: str) -> dict[str, str]:
        with self.held():
            return dict(sorted({tag.key: tag.value for tag in self._told(run, Tag)}.items()))

    def series(self, runs: Sequence[str]) -> Sequence[SeriesRow]:
        with self.held():
            found = [item for run in sorted(set(runs)) for item in sorted(self._points(run).items())]
        return [
            SeriesRow(run, key, json.loads(context), **msgspec.structs.asdict(Summary.of(joined(pieces))))
            for (run, key, context), pieces in found
        ]

    def history(self, run: str, key: str, context: Context, *, steps: tuple[int, int] | None = None) -> History:
        with self.held():
            pieces = self._points(run).get((run, key, context_text(context)))
        if pieces is None:
            raise KeyError(f"run {run!r} has no series {key!r} with context {context!r}")
        whole = in_order(joined(pieces))
        if steps is None:
            return whole
        inside = (whole.steps >= steps[0]) & (whole.steps <= steps[1])
        return History(whole.steps[inside], whole.times_ns[inside], whole.values[inside])

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
        def is_wanted(edge: Edge) -> bool:
            return (
                (runs is None or edge.run in runs)
                and (digests is None or edge.artifact.digest in digests or edge.artifact.weights in digests)
                and role in (None, edge.artifact.role)
                and kind in (None, edge.artifact.kind)
                and (before is None or edge.id < before)
            )

        with self.held():
            return list(islice(filter(is_wanted, reversed(self._edges)), limit))

    def datasets(
        self,
        *,
        runs: Sequence[str] | None = None,
        name: str | None = None,
        role: str | None = None,
        fingerprints: Sequence[str] | None = None,
        limit: int = 1_000,
    ) -> Sequence[DatasetUse]:
        with self.held():
            told = [
                DatasetUse(run, dataset)
                for run in (list(self._batches) if runs is None else set(runs))
                for dataset in {(one.role, one.name): one for one in self._told(run, Dataset)}.values()
            ]
        found = [
            use
            for use in told
            if name in (None, use.dataset.name)
            and role in (None, use.dataset.role)
            and (fingerprints is None or use.dataset.fingerprint in fingerprints)
        ]
        return sorted(found, key=lambda use: (-use.dataset.time_ns, use.run, use.dataset.role, use.dataset.name))[
            :limit
        ]

    def alerts(
        self, *, runs: Sequence[str] | None = None, kind: str | None = None, limit: int = 1_000
    ) -> Sequence[RunAlert]:
        with self.held():
            told = [
                RunAlert(run, alert)
                for run in sorted(self._batches if runs is None else set(runs))
                for alert in reversed(self._told(run, Alert))
                if kind in (None, alert.kind)
            ]
        return sorted(told, key=lambda one: -one.alert.time_ns)[:limit]

    def windows(self, query: WindowQuery) -> Sequence[RunWindow]:
        def is_wanted(window: Window) -> bool:
            return (
                (query.models is None or window.model in query.models)
                and (query.versions is None or window.version in query.versions)
                and query.reference is (window.split is not None)
                and (query.since_ns is None or window.time_ns >= query.since_ns)
                and (query.until_ns is None or window.time_ns < query.until_ns)
            )

        last: dict[str, RunWindow] = {}
        with self.held():
            for run in list(self._batches) if query.runs is None else set(query.runs):
                for batch in self._batches.get(run, ()):
                    for window in batch.records:
                        if isinstance(window, Window) and is_wanted(window):
                            one = RunWindow(run, batch.journal, window)
                            known = last.get(one.id)
                            if known is None or supersedes(window.requests, known.window.requests):
                                last[one.id] = one
        found = sorted(last.values(), key=window_order)
        if query.before is not None:
            time_ns, id = query.before
            found = [one for one in found if window_order(one) > (-time_ns, id)]
        return found[: query.limit]

    # Tokens

    def tokens(self) -> Sequence[TokenRow]:
        with self.held():
            return sorted(self._tokens.values(), key=lambda token: (token.created_ns, token.id))

    def add_token(self, token: TokenRow) -> None:
        with self.held(to_change=True):
            if any(token.id == other.id or token.hash == other.hash for other in self._tokens.values()):
                raise ValueError(f"a token with the id {token.id!r}, or with the same hash, is there already")
            self.keep(Change(token=token))

    def revoke_token(self, id: str, at_ns: int) -> bool:
        with self.held(to_change=True):
            token = self._tokens.get(id)
            if token is not None and token.revoked_ns is None:
                self.keep(Change(token=msgspec.structs.replace(token, revoked_ns=at_ns)))
        return token is not None

    def token_used(self, id: str, at_ns: int) -> None:
        with self.held(to_change=True):
            token = self._tokens.get(id)
            if token is not None and (token.last_used_ns is None or token.last_used_ns < at_ns):
                self.keep(Change(token=msgspec.structs.replace(token, last_used_ns=at_ns)))

    # What a run told

    def _add_edges(self, run: str, artifacts: Sequence[Artifact]) -> None:
        if not artifacts:
            return
        added, gone = changes([(edge.id, edge.artifact) for edge in self._edges if edge.run == run], artifacts)
        self._edges = [edge for edge in self._edges if edge.id not in gone] if gone else self._edges
        for artifact in added:
            self._last_edge += 1
            self._edges.append(Edge(self._last_edge, run, artifact))

    def _told(self, run: str, kind: type[R]) -> list[R]:
        return [record for batch in self._batches.get(run, ()) for record in batch.records if isinstance(record, kind)]

    def _points(self, run: str) -> Points:
        points: Points = {}
        for batch in self._batches.get(run, ()):
            for name, pieces in columns_by_series(batch).items():
                points.setdefault(name, []).extend(pieces)
        return points

    def _row(self, run: RunState) -> RunRow:
        told = run.started
        assert told is not None, "it began here"
        return RunRow(
            run=run.run,
            name=told.name,
            experiment=told.experiment,
            kind=told.kind,
            status=run.status,
            started_ns=told.time_ns,
            ended_ns=run.ended_ns,
            heartbeat_ns=run.heartbeat_ns,
            error=run.error,
            identity=told,
            environment=run.environment,
            # What several processes of a job note is one note.
            notes=_each_once(self._told(run.run, Note)),
        )


def _each_once(notes: Sequence[Note]) -> tuple[Note, ...]:
    """What several processes of a job note is one note."""
    found: dict[tuple[str, str], Note] = {}
    for note in notes:
        found.setdefault((note.topic, note.message), note)
    return tuple(found.values())


def _news(arrival: Arrival) -> Arrival:
    """What a batch that is stored already tells: its heartbeat and its drops."""
    batch = arrival.batch
    return Arrival(msgspec.structs.replace(batch, first=batch.next, series=(), records=()), arrival.owner)
