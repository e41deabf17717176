"""How a group of batches becomes rows, on any SQL engine, inside one transaction of the caller.

First it is decided in memory what becomes of each batch (:mod:`looptap_collector.judging`); then all that was
accepted is written together: the number of statements does not depend on the number of batches. The ledger's entries
are written with the rows, so that either both are there or neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, insert, select, update

from looptap.events import Batch, RunEnded
from looptap_collector.backend import Arrival, Outcome, Rejected
from looptap_collector.backends import tables
from looptap_collector.backends.appending import merge_small_chunks, write_points
from looptap_collector.backends.dialects import insert_missing, upsert
from looptap_collector.backends.records import write_records
from looptap_collector.backends.slices import slices
from looptap_collector.backends.standing import look_up
from looptap_collector.backends.summaries import Points, columns_by_series
from looptap_collector.judging import LedgerState, RunState


def write_arrivals(connection: Connection, arrivals: Sequence[Arrival]) -> list[Outcome | Rejected]:
    """One answer per batch, in order."""
    standing = look_up(connection, arrivals)
    answers: list[Outcome | Rejected] = []
    accepted: list[Batch] = []
    points: Points = {}
    for arrival in arrivals:
        try:
            columns = columns_by_series(arrival.batch)
            outcome = standing.judge(arrival)
        except Rejected as refusal:
            answers.append(refusal)
            continue
        answers.append(outcome)
        if outcome is Outcome.STORED:
            accepted.append(arrival.batch)
            for name, pieces in columns.items():
                points.setdefault(name, []).extend(pieces)
    _write_runs(connection, list(standing.runs.values()))
    _write_ledgers(connection, [entry for entry in standing.ledgers.values() if entry.is_changed])
    write_records(connection, accepted)
    write_points(connection, points)
    ended = [batch.run for batch in accepted if any(isinstance(record, RunEnded) for record in batch.records)]
    merge_small_chunks(connection, ended)
    return answers


def _write_runs(connection: Connection, runs: Sequence[RunState]) -> None:
    begun = sorted((run for run in runs if run.is_new), key=lambda run: run.run)
    if begun:
        connection.execute(_INSERT_RUN, _identities(connection, begun))
    changed = [run for run in runs if run.is_changed and not run.is_new]
    if told_again := [run for run in changed if run.started is not None]:
        connection.execute(_UPDATE_IDENTITY, _identities(connection, told_again))
    if changed:
        connection.execute(_UPDATE_RUN, [{"this_run": run.run, **_changing(run)} for run in changed])
    environments = [
        {"this_run": run.run, "environment": msgspec.json.encode(run.environment).decode()}
        for run in runs
        if run.environment is not None
    ]
    if environments:
        connection.execute(_UPDATE_ENVIRONMENT, environments)


_CHANGING = ("status", "ended_ns", "heartbeat_ns", "error", "told_end")
_THIS_RUN = update(tables.run).where(tables.run.c.run == bindparam("this_run"))
_UPDATE_RUN = _THIS_RUN.values({name: bindparam(name) for name in _CHANGING})
_UPDATE_ENVIRONMENT = _THIS_RUN.values(environment=bindparam("environment"))
_INSERT_RUN = insert(tables.run)
_IDENTITY = ("experiment_id", "name", "kind", "started_ns", "identity")
_UPDATE_IDENTITY = (
    update(tables.run)
    .where(tables.run.c.run == bindparam("this_run"))
    .values({name: bindparam(name) for name in _IDENTITY})
)
_EXPERIMENTS = select(tables.experiment.c.name, tables.experiment.c.id).where(
    tables.experiment.c.name.in_(tables.names("names"))
)


def _changing(run: RunState) -> dict[str, Any]:
    return {name: getattr(run, name) for name in _CHANGING}


def _identities(connection: Connection, runs: Sequence[RunState]) -> list[dict[str, Any]]:
    """Rows of these runs, whose identities were told in this group."""
    starts = {run.run: run.started for run in runs if run.started is not None}
    known = experiment_ids(connection, {started.experiment for started in starts.values()})
    rows = []
    for run in runs:
        started = starts[run.run]
        rows.append(
            {
                "run" if run.is_new else "this_run": run.run,
                "experiment_id": known[started.experiment],
                "name": started.name,
                "kind": started.kind,
                "started_ns": started.time_ns,
                "identity": msgspec.json.encode(started).decode(),
                **({"owner": run.owner, **_changing(run)} if run.is_new else {}),
            }
        )
    return rows


def experiment_ids(connection: Connection, names: Iterable[str]) -> dict[str, int]:
    """By name; those that are missing are made."""
    experiments = sorted(set(names))
    # Most are there already, and an id that is not used up costs nothing.
    known = _known_experiments(connection, experiments)
    missing = [{"name": name} for name in experiments if name not in known]
    if missing:
        insert_missing(connection, tables.experiment, missing)
        known = _known_experiments(connection, experiments)
    return known


def _known_experiments(connection: Connection, names: Sequence[str]) -> dict[str, int]:
    ids: dict[str, int] = {}
    for some in slices(names):
        ids.update((name, number) for name, number in connection.execute(_EXPERIMENTS, {"names": some}))
    return ids


def _write_ledgers(connection: Connection, entries: Sequence[LedgerState]) -> None:
    rows = [
        {
            "journal": entry.journal,
            "run": entry.run,
            "next": entry.next,
            "stored": entry.stored,
            "dropped": msgspec.json.encode(entry.dropped).decode(),
            "first": entry.first,
            "digest": entry.digest,
            "rank": entry.rank,
            "status": entry.status,
            "ended_ns": entry.ended_ns,
            "error": entry.error,
        }
        for entry in entries
    ]
    upsert(connection, tables.ledger, rows)
