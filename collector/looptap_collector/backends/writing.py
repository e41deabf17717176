"""How a batch becomes rows, on any SQL engine, inside one transaction of the caller.

The ledger decides first whether the batch is new; its entry is written with the rows, so that either both are there or neither.
Points go into chunks. Full chunks (:data:`FULL_POINTS` or more) are never touched again. What comes in smaller pieces waits as
small chunks at the end of its series, known by the series' own row; when enough has gathered, or the run ends, they become one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import islice
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select, update

from looptap.events import Artifact, Batch, Context, Environment, Note, Param, RunEnded, RunStarted, Tag
from looptap_collector import chunks
from looptap_collector.backend import Outcome, Rejected
from looptap_collector.backends import tables
from looptap_collector.backends.summaries import Columns, Summary, columns_of, joined

#: A chunk of so many points is good enough to stay: smaller ones cost more bytes per point.
FULL_POINTS = 2_048
#: So many small chunks are merged even if they do not fill one, or a slow series would have thousands.
MOST_SMALL = 16
#: Names in one ``IN (…)``; engines bound the number of parameters.
_NAMES_AT_ONCE = 500


def write_batch(connection: Connection, batch: Batch) -> Outcome:
    """Store the batch and its ledger entry. Raises :class:`Rejected`; the caller then rolls back."""
    columns = _columns_by_series(batch)
    entry = connection.execute(select(tables.ledger).where(tables.ledger.c.journal == batch.journal)).one_or_none()
    if entry is not None and entry.run != batch.run:
        raise Rejected(f"journal {batch.journal!r} belongs to run {entry.run!r}, not to {batch.run!r}")
    position = 0 if entry is None else entry.next
    if batch.next <= position:
        _note_signs_of_life(connection, batch, entry)
        return Outcome.DUPLICATE
    if batch.first < position:
        raise Rejected(f"records {batch.first} to {batch.next - 1} of journal {batch.journal!r} overlap what is stored "
                       f"(up to {position - 1})")
    _write_records(connection, batch)
    _write_points(connection, batch.run, columns)
    if any(isinstance(record, RunEnded) for record in batch.records):
        merge_small_chunks(connection, batch.run)
    _move_ledger(connection, batch, entry)
    _beat(connection, batch)
    return Outcome.STORED


def context_text(context: Context) -> str:
    """Equal contexts give equal text."""
    return msgspec.json.encode(context, order="sorted").decode()


# The ledger


def _move_ledger(connection: Connection, batch: Batch, entry: Row[Any] | None) -> None:
    if entry is None:
        dropped = msgspec.json.encode(batch.dropped).decode()
        connection.execute(insert(tables.ledger).values(
            journal=batch.journal, run=batch.run, next=batch.next, stored=batch.count(), dropped=dropped,
        ))
        return
    connection.execute(update(tables.ledger).where(tables.ledger.c.journal == batch.journal).values(
        next=batch.next, stored=entry.stored + batch.count(), dropped=_higher_totals(entry.dropped, batch.dropped),
    ))


def _note_signs_of_life(connection: Connection, batch: Batch, entry: Row[Any] | None) -> None:
    """A batch without new records still tells that the agent lives and what it lost. Both only ever grow, so an old copy of a
    batch changes nothing."""
    _beat(connection, batch)
    if entry is not None:
        dropped = _higher_totals(entry.dropped, batch.dropped)
        if dropped != entry.dropped:
            connection.execute(
                update(tables.ledger).where(tables.ledger.c.journal == batch.journal).values(dropped=dropped)
            )


def _higher_totals(known: str, told: dict[str, int]) -> str:
    totals = msgspec.json.decode(known, type=dict[str, int])
    for reason, total in told.items():
        totals[reason] = max(total, totals.get(reason, 0))
    return msgspec.json.encode(totals).decode()


def _beat(connection: Connection, batch: Batch) -> None:
    run = tables.run.c
    if batch.heartbeat_ns:
        connection.execute(
            update(tables.run)
            .where(run.run == batch.run, func.coalesce(run.heartbeat_ns, -1) < batch.heartbeat_ns)
            .values(heartbeat_ns=batch.heartbeat_ns)
        )


# Records


def _write_records(connection: Connection, batch: Batch) -> None:
    for record in batch.records:
        if isinstance(record, RunStarted):
            _start_run(connection, batch, record)
    known = connection.execute(select(tables.run.c.run).where(tables.run.c.run == batch.run)).one_or_none()
    if known is None:
        raise Rejected(f"run {batch.run!r} never started")
    for record in batch.records:
        if isinstance(record, Param):
            _set_param(connection, batch.run, record)
        elif isinstance(record, Tag):
            _set_tag(connection, batch.run, record)
        elif isinstance(record, Artifact):
            _add_artifact(connection, batch.run, record)
        elif isinstance(record, Note):
            connection.execute(insert(tables.note).values(run=batch.run, **msgspec.structs.asdict(record)))
        elif isinstance(record, Environment):
            environment = msgspec.json.encode(record).decode()
            connection.execute(_this_run(batch.run).values(environment=environment))
        elif isinstance(record, RunEnded):
            connection.execute(_this_run(batch.run).values(
                status=record.status, ended_ns=record.time_ns, error=record.error, told_end=1,
            ))


def _this_run(run: str) -> Any:
    return update(tables.run).where(tables.run.c.run == run)


def _start_run(connection: Connection, batch: Batch, started: RunStarted) -> None:
    """A second start of the same run is another process of it; the identity of the first stays."""
    if started.run != batch.run:
        raise Rejected(f"a batch of run {batch.run!r} cannot start run {started.run!r}")
    if connection.execute(select(tables.run.c.run).where(tables.run.c.run == started.run)).one_or_none():
        return
    by_name = select(tables.experiment.c.id).where(tables.experiment.c.name == started.experiment)
    experiment = connection.execute(by_name).scalar_one_or_none()
    if experiment is None:
        connection.execute(insert(tables.experiment).values(name=started.experiment))
        experiment = connection.execute(by_name).scalar_one()
    connection.execute(insert(tables.run).values(
        run=started.run, experiment_id=experiment, name=started.name, kind=started.kind, status="running",
        started_ns=started.time_ns, told_end=0, identity=msgspec.json.encode(started).decode(),
    ))


def _set_param(connection: Connection, run: str, param: Param) -> None:
    columns = tables.param.c
    newest = connection.execute(
        select(columns.value, columns.revision)
        .where(columns.run == run, columns.key == param.key)
        .order_by(columns.revision.desc()).limit(1)
    ).one_or_none()
    # Not msgspec: its JSON has no NaN and no integer beyond 64 bits. Compared as text, 1 and 1.0 and true are different.
    value = json.dumps(param.value)
    if newest is None or newest.value != value:
        connection.execute(insert(tables.param).values(
            run=run, key=param.key, revision=0 if newest is None else newest.revision + 1,
            value=value, source=param.source, time_ns=param.time_ns,
        ))


def _set_tag(connection: Connection, run: str, tag: Tag) -> None:
    columns = tables.tag.c
    values = {"value": tag.value, "time_ns": tag.time_ns}
    changed = connection.execute(
        update(tables.tag).where(columns.run == run, columns.key == tag.key).values(values)
    )
    if changed.rowcount == 0:
        connection.execute(insert(tables.tag).values(run=run, key=tag.key, **values))


def _add_artifact(connection: Connection, run: str, artifact: Artifact) -> None:
    if artifact.digest is not None:
        by_digest = select(tables.artifact.c.digest).where(tables.artifact.c.digest == artifact.digest)
        if connection.execute(by_digest).one_or_none() is None:
            connection.execute(insert(tables.artifact).values(
                digest=artifact.digest, size_bytes=artifact.size_bytes, media_type=artifact.media_type,
            ))
    connection.execute(insert(tables.lineage).values(run=run, **msgspec.structs.asdict(artifact)))


# Points


def _columns_by_series(batch: Batch) -> dict[tuple[str, str], Columns]:
    pieces: dict[tuple[str, str], list[Columns]] = {}
    for points in batch.series:
        columns = columns_of(points)
        if len(columns):
            pieces.setdefault((points.key, context_text(points.context)), []).append(columns)
    return {name: joined(several) for name, several in pieces.items()}


def _write_points(connection: Connection, run: str, columns: dict[tuple[str, str], Columns]) -> None:
    """Read the rows of the series concerned, add to them in memory, and write them back; in three statements if all exist."""
    if not columns:
        return
    rows = _series_rows(connection, run, columns)
    summaries = {name: Summary.of(points) for name, points in columns.items()}
    new = [name for name in columns if name not in rows]
    if new:
        connection.execute(insert(tables.series), [
            {"run": run, "key": key, "context": context, "next_part": 0, "tail_part": 0, "tail_points": 0,
             **summaries[key, context].row()}
            for key, context in new
        ])
        created = set(new)
        rows = _series_rows(connection, run, columns)
    else:
        created = set()
    changed, chunk_rows = [], []
    for name, points in columns.items():
        row, summary = rows[name], summaries[name]
        tail, added = _append(connection, row, points)
        chunk_rows += added
        if name not in created:
            summary = _summary(row).then(summary)
        changed.append({"series_id": row.id, **summary.row(), **tail})
    connection.execute(insert(tables.chunk), chunk_rows)
    _update_series(connection, changed)


def _series_rows(
    connection: Connection, run: str, names: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], Row[Any]]:
    columns, keys = tables.series.c, iter({key for key, _ in names})
    rows = {}
    while some := list(islice(keys, _NAMES_AT_ONCE)):
        for row in connection.execute(select(tables.series).where(columns.run == run, columns.key.in_(some))):
            rows[row.key, row.context] = row
    return rows


def _summary(row: Row[Any]) -> Summary:
    return Summary(**{name: getattr(row, name) for name in Summary.__struct_fields__})


def _update_series(connection: Connection, changed: list[dict[str, Any]]) -> None:
    names = [name for name in changed[0] if name != "series_id"]
    statement = update(tables.series).where(tables.series.c.id == bindparam("series_id"))
    connection.execute(statement.values({name: bindparam(name) for name in names}), changed)


def _append(connection: Connection, row: Row[Any], points: Columns) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """New chunks for the points, and the series' new tail. Takes the small chunks in when that makes a full one, or when they
    have become many."""
    small = row.next_part - row.tail_part
    if small and (row.tail_points + len(points) >= FULL_POINTS or small + 1 >= MOST_SMALL):
        return _rewrite_tail(connection, row, [points])
    return _as_chunks(row.id, row.next_part, row.tail_part, row.tail_points, points)


def _rewrite_tail(
    connection: Connection, row: Row[Any], more: list[Columns]
) -> tuple[dict[str, int], list[dict[str, Any]]]:
    columns = tables.chunk.c
    of_tail = (columns.series_id == row.id) & (columns.part >= row.tail_part)
    blobs = connection.execute(select(columns.data).where(of_tail).order_by(columns.part)).scalars().all()
    connection.execute(delete(tables.chunk).where(of_tail))
    points = joined([*(Columns(*chunks.decode(blob)) for blob in blobs), *more])
    return _as_chunks(row.id, row.tail_part, row.tail_part, 0, points)


def _as_chunks(
    series_id: int, next_part: int, tail_part: int, tail_points: int, points: Columns
) -> tuple[dict[str, int], list[dict[str, Any]]]:
    rows = []
    for part, piece in enumerate(points.cut(chunks.MAX_POINTS), start=next_part):
        summary = Summary.of(piece)
        rows.append({
            "series_id": series_id, "part": part, "count": summary.count, "nan_count": summary.nan_count,
            "min": summary.min, "max": summary.max,
            "first_step": summary.first_step, "last_step": summary.last_step,
            "data": chunks.encode(piece.steps, piece.times_ns, piece.values),
        })
    next_part += len(rows)
    if len(points) >= FULL_POINTS:
        tail_part, tail_points = next_part, 0
    else:
        tail_points += len(points)
    return {"next_part": next_part, "tail_part": tail_part, "tail_points": tail_points}, rows


def merge_small_chunks(connection: Connection, run: str) -> None:
    """Make one chunk of the small ones of every series: the run has ended, or has been given up."""
    columns = tables.series.c
    several = select(tables.series).where(columns.run == run, columns.next_part - columns.tail_part > 1)
    for row in connection.execute(several).all():
        tail, rows = _rewrite_tail(connection, row, [])
        connection.execute(insert(tables.chunk), rows)
        _update_series(connection, [{"series_id": row.id, **tail}])
