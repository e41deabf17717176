"""How the runs and ledgers of a group of batches stand, read from the tables, with their rows locked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy import Connection, select

from looptap_collector.backend import Arrival
from looptap_collector.backends import tables
from looptap_collector.backends.slices import slices
from looptap_collector.judging import LedgerState, RunState, Standing, of_several


def look_up(connection: Connection, arrivals: Iterable[Arrival]) -> Standing:
    """How everything stands that the batches touch, with the rows of their runs locked."""
    batches = [arrival.batch for arrival in arrivals]
    standing = Standing(lock_runs(connection, {batch.run for batch in batches}), {})
    for journals in slices(sorted({batch.journal for batch in batches})):
        _add_ledgers(standing, connection.execute(_LEDGERS, {"journals": journals}))
    for runs in slices(sorted(of_several(batches) & standing.runs.keys())):
        _add_ledgers(standing, connection.execute(_LEDGERS_OF_RUNS, {"runs": runs}))
    return standing


def _add_ledgers(standing: Standing, rows: Iterable[Any]) -> None:
    for row in rows:
        dropped = msgspec.json.decode(row.dropped, type=dict[str, int])
        standing.ledgers[row.journal] = LedgerState(
            row.journal,
            row.run,
            row.owner,
            row.next,
            row.stored,
            dropped,
            row.first,
            row.digest,
            row.rank,
            row.status,
            row.ended_ns,
            row.error,
        )


def lock_runs(connection: Connection, runs: Iterable[str]) -> dict[str, RunState]:
    """Those that exist. Where the engine has locks of rows, these are locked, always in the same order: whoever changes
    what belongs to a run holds its row, so that it stands still for him."""
    states = {}
    for some in slices(sorted(set(runs))):
        for row in connection.execute(_RUNS, {"runs": some}):
            states[row.run] = RunState(*row)
    return states


_run, _ledger = tables.run.c, tables.ledger.c
_RUNS = (
    select(_run.run, _run.owner, _run.status, _run.ended_ns, _run.heartbeat_ns, _run.error, _run.told_end)
    .where(_run.run.in_(tables.names("runs")))
    .order_by(_run.run)
    .with_for_update()
)
_LEDGERS_WITH_OWNERS = select(tables.ledger, _run.owner).join(tables.run, _run.run == _ledger.run)
_LEDGERS = _LEDGERS_WITH_OWNERS.where(_ledger.journal.in_(tables.names("journals")))
_LEDGERS_OF_RUNS = _LEDGERS_WITH_OWNERS.where(_ledger.run.in_(tables.names("runs")))
