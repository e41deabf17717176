"""How a batch becomes rows, on any SQL engine, inside one transaction of the caller.

The ledger decides first whether the batch is new; its entry is written with the rows, so that either both are
there or neither.
"""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, func, insert, select, update

from looptap.events import Artifact, Batch, Environment, Note, Param, RunEnded, RunStarted, Tag
from looptap_collector.backend import Outcome, Rejected
from looptap_collector.backends import tables
from looptap_collector.backends.appending import columns_by_series, merge_small_chunks, write_points


def write_batch(connection: Connection, batch: Batch) -> Outcome:
    """Store the batch and its ledger entry. Raises :class:`Rejected`; the caller then rolls back."""
    columns = columns_by_series(batch)
    of_journal = tables.ledger.c.journal == batch.journal
    entry = connection.execute(select(tables.ledger).where(of_journal)).one_or_none()
    if entry is not None and entry.run != batch.run:
        raise Rejected(f"journal {batch.journal!r} belongs to run {entry.run!r}, not to {batch.run!r}")
    position = 0 if entry is None else entry.next
    if batch.next <= position:
        _note_signs_of_life(connection, batch, entry)
        return Outcome.DUPLICATE
    if batch.first < position:
        raise Rejected(
            f"records {batch.first} to {batch.next - 1} of journal {batch.journal!r} overlap what is stored "
            f"(up to {position - 1})"
        )
    _write_records(connection, batch)
    write_points(connection, batch.run, columns)
    if any(isinstance(record, RunEnded) for record in batch.records):
        merge_small_chunks(connection, batch.run)
    _move_ledger(connection, batch, entry)
    _beat(connection, batch)
    return Outcome.STORED


# The ledger


def _move_ledger(connection: Connection, batch: Batch, entry: Row[Any] | None) -> None:
    if entry is None:
        dropped = msgspec.json.encode(batch.dropped).decode()
        connection.execute(
            insert(tables.ledger).values(
                journal=batch.journal,
                run=batch.run,
                next=batch.next,
                stored=batch.count(),
                dropped=dropped,
            )
        )
        return
    connection.execute(
        update(tables.ledger)
        .where(tables.ledger.c.journal == batch.journal)
        .values(
            next=batch.next,
            stored=entry.stored + batch.count(),
            dropped=_higher_totals(entry.dropped, batch.dropped),
        )
    )


def _note_signs_of_life(connection: Connection, batch: Batch, entry: Row[Any] | None) -> None:
    """A batch without new records still tells that the agent lives and what it lost. Both only ever grow, so
    an old copy of a batch changes nothing."""
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
        # It was given up too early: a machine that slept, a disk that was away.
        connection.execute(
            update(tables.run)
            .where(run.run == batch.run, run.status == "lost", run.told_end == 0, run.ended_ns < batch.heartbeat_ns)
            .values(status="running", ended_ns=None, error=None)
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
            connection.execute(
                _this_run(batch.run).values(
                    status=record.status,
                    ended_ns=record.time_ns,
                    error=record.error,
                    told_end=1,
                )
            )


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
    connection.execute(
        insert(tables.run).values(
            run=started.run,
            experiment_id=experiment,
            name=started.name,
            kind=started.kind,
            status="running",
            started_ns=started.time_ns,
            told_end=0,
            identity=msgspec.json.encode(started).decode(),
        )
    )


def _set_param(connection: Connection, run: str, param: Param) -> None:
    columns = tables.param.c
    newest = connection.execute(
        select(columns.value, columns.revision)
        .where(columns.run == run, columns.key == param.key)
        .order_by(columns.revision.desc())
        .limit(1)
    ).one_or_none()
    # Not msgspec: its JSON has no NaN and no integer beyond 64 bits. Compared as text, 1 and 1.0 and true are
    # different.
    value = json.dumps(param.value)
    if newest is None or newest.value != value:
        if newest is not None:
            connection.execute(
                update(tables.param).where(columns.run == run, columns.key == param.key).values(is_current=0)
            )
        connection.execute(
            insert(tables.param).values(
                run=run,
                key=param.key,
                revision=0 if newest is None else newest.revision + 1,
                value=value,
                source=param.source,
                time_ns=param.time_ns,
                number=_finite(param.value),
                is_current=1,
            )
        )


def _finite(value: object) -> float | None:
    """The value as the number by which filters compare it."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _set_tag(connection: Connection, run: str, tag: Tag) -> None:
    columns = tables.tag.c
    values = {"value": tag.value, "time_ns": tag.time_ns}
    changed = connection.execute(update(tables.tag).where(columns.run == run, columns.key == tag.key).values(values))
    if changed.rowcount == 0:
        connection.execute(insert(tables.tag).values(run=run, key=tag.key, **values))


def _add_artifact(connection: Connection, run: str, artifact: Artifact) -> None:
    if artifact.digest is not None:
        by_digest = select(tables.artifact.c.digest).where(tables.artifact.c.digest == artifact.digest)
        if connection.execute(by_digest).one_or_none() is None:
            connection.execute(
                insert(tables.artifact).values(
                    digest=artifact.digest,
                    size_bytes=artifact.size_bytes,
                    media_type=artifact.media_type,
                )
            )
    connection.execute(insert(tables.lineage).values(run=run, **msgspec.structs.asdict(artifact)))
