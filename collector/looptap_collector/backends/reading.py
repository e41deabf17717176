"""How rows become what :mod:`looptap_collector.backend` promises, on any SQL engine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, Select, func, select

from looptap.events import Artifact, Context, Environment, Note, RunStarted
from looptap_collector.backend import Delivery, Edge, ExperimentRow, ParamRow, RunRow, SeriesRow
from looptap_collector.backends import tables
from looptap_collector.backends.records import artifact_of
from looptap_collector.backends.slices import slices

_DIGESTS_AT_ONCE = 10_000
_IDENTITY = msgspec.json.Decoder(RunStarted)
_ENVIRONMENT = msgspec.json.Decoder(Environment)


def position(connection: Connection, journal: str) -> int:
    found = connection.execute(select(tables.ledger.c.next).where(tables.ledger.c.journal == journal))
    return found.scalar_one_or_none() or 0


def deliveries(connection: Connection, run: str) -> list[Delivery]:
    columns = tables.ledger.c
    rows = connection.execute(select(tables.ledger).where(columns.run == run).order_by(columns.journal))
    return [
        Delivery(
            row.journal,
            row.run,
            row.next,
            row.stored,
            msgspec.json.decode(row.dropped, type=dict[str, int]),
            row.rank,
            row.status,
            row.ended_ns,
            row.error,
        )
        for row in rows
    ]


def runs(connection: Connection, experiment: str | None, status: str | None, limit: int | None) -> list[RunRow]:
    chosen = _runs().order_by(tables.run.c.started_ns.desc(), tables.run.c.run.desc()).limit(limit)
    if experiment is not None:
        chosen = chosen.where(tables.experiment.c.name == experiment)
    if status is not None:
        chosen = chosen.where(tables.run.c.status == status)
    rows = connection.execute(chosen).all()
    notes = _notes(connection, [row.run for row in rows])
    return [_run_row(row, notes) for row in rows]


def run(connection: Connection, run: str) -> RunRow | None:
    row = connection.execute(_runs().where(tables.run.c.run == run)).one_or_none()
    return None if row is None else _run_row(row, _notes(connection, [run]))


def runs_by_id(connection: Connection, runs: Sequence[str]) -> list[RunRow]:
    """The rows of these runs, in this order; those that are not there are left out."""
    found = {}
    for some in slices(runs):
        for row in connection.execute(_runs().where(tables.run.c.run.in_(some))):
            found[row.run] = row
    notes = _notes(connection, list(found))
    return [_run_row(found[run], notes) for run in runs if run in found]


def _runs() -> Select[Any]:
    return select(tables.run, tables.experiment.c.name.label("experiment")).join(tables.experiment)


def _notes(connection: Connection, runs: Sequence[str]) -> dict[str, list[Note]]:
    notes: dict[str, list[Note]] = {run: [] for run in runs}
    columns = tables.note.c
    for some in slices(runs):
        chosen = select(tables.note).where(columns.run.in_(some)).order_by(columns.id)
        for row in connection.execute(chosen):
            notes[row.run].append(Note(row.topic, row.message, row.time_ns))
    return notes


def _run_row(row: Row[Any], notes: dict[str, list[Note]]) -> RunRow:
    return RunRow(
        run=row.run,
        name=row.name,
        experiment=row.experiment,
        kind=row.kind,
        status=row.status,
        started_ns=row.started_ns,
        ended_ns=row.ended_ns,
        heartbeat_ns=row.heartbeat_ns,
        error=row.error,
        identity=_IDENTITY.decode(row.identity),
        environment=None if row.environment is None else _ENVIRONMENT.decode(row.environment),
        notes=tuple(notes[row.run]),
    )


def params(connection: Connection, run: str, revisions: bool) -> list[ParamRow]:
    columns = tables.param.c
    chosen = select(tables.param).where(columns.run == run).order_by(columns.key, columns.revision)
    found = [
        ParamRow(row.key, json.loads(row.value), row.source, row.revision, row.time_ns)
        for row in connection.execute(chosen)
    ]
    return found if revisions else list({row.key: row for row in found}.values())


def tags(connection: Connection, run: str) -> dict[str, str]:
    columns = tables.tag.c
    chosen = select(columns.key, columns.value).where(columns.run == run).order_by(columns.key)
    return {row.key: row.value for row in connection.execute(chosen)}


def series(connection: Connection, runs: Sequence[str]) -> list[SeriesRow]:
    columns = tables.series.c
    found: list[SeriesRow] = []
    for some in slices(sorted(set(runs))):
        chosen = select(tables.series).where(columns.run.in_(some)).order_by(columns.run, columns.key, columns.context)
        for row in connection.execute(chosen).mappings():
            fields = {name: row[name] for name in SeriesRow.__struct_fields__}
            fields["context"] = msgspec.json.decode(row["context"], type=Context)
            found.append(SeriesRow(**fields))
    return found


def current_params(connection: Connection, runs: Sequence[str]) -> dict[str, dict[str, object]]:
    columns = tables.param.c
    found: dict[str, dict[str, object]] = {run: {} for run in runs}
    chosen = select(columns.run, columns.key, columns.value).where(columns.is_current == 1).order_by(columns.key)
    for some in slices(runs):
        for row in connection.execute(chosen.where(columns.run.in_(some))):
            found[row.run][row.key] = json.loads(row.value)
    return found


def current_tags(connection: Connection, runs: Sequence[str]) -> dict[str, dict[str, str]]:
    columns = tables.tag.c
    found: dict[str, dict[str, str]] = {run: {} for run in runs}
    for some in slices(runs):
        for row in connection.execute(select(tables.tag).where(columns.run.in_(some)).order_by(columns.key)):
            found[row.run][row.key] = row.value
    return found


def experiments(connection: Connection) -> list[ExperimentRow]:
    chosen = (
        select(tables.experiment.c.name, func.count(), func.max(tables.run.c.started_ns))
        .join(tables.run)
        .group_by(tables.experiment.c.name)
        .order_by(tables.experiment.c.name)
    )
    return [ExperimentRow(*row) for row in connection.execute(chosen)]


def edges(
    connection: Connection,
    runs: Sequence[str] | None,
    digests: Sequence[str] | None,
    role: str | None,
    kind: str | None,
    before: int | None,
    limit: int,
) -> list[Edge]:
    columns = tables.lineage.c
    chosen = select(tables.lineage).order_by(columns.id.desc()).limit(limit)
    for column, value in ((columns.role, role), (columns.kind, kind)):
        if value is not None:
            chosen = chosen.where(column == value)
    if before is not None:
        chosen = chosen.where(columns.id < before)
    found: list[Edge] = []
    # Of long lists each slice gives its latest; together they hold the latest of all.
    for some_runs in [None] if runs is None else slices(runs):
        for some_digests in [None] if digests is None else slices(digests):
            narrowed = chosen if some_runs is None else chosen.where(columns.run.in_(some_runs))
            if some_digests is not None:
                narrowed = narrowed.where(columns.digest.in_(some_digests) | columns.weights.in_(some_digests))
            found += [Edge(row.id, row.run, artifact_of(row)) for row in connection.execute(narrowed)]
    return sorted(found, key=lambda edge: -edge.id)[:limit]


def artifacts(connection: Connection, run: str) -> list[Artifact]:
    columns = tables.lineage.c
    rows = connection.execute(select(tables.lineage).where(columns.run == run).order_by(columns.id))
    return [artifact_of(row) for row in rows]


def digests(connection: Connection, after: str, besides: str | None = None) -> list[str]:
    """The next ones that some run refers to, in another role than ``besides``, in order; empty at the end."""
    column = tables.lineage.c.digest
    chosen = select(column).where(column > after)
    if besides is not None:
        chosen = chosen.where(tables.lineage.c.role != besides)
    chosen = chosen.distinct().order_by(column).limit(_DIGESTS_AT_ONCE)
    return [digest for digest in connection.execute(chosen).scalars() if digest is not None]
