"""Taking a run out of a store, with everything that hangs off it."""

from __future__ import annotations

from sqlalchemy import Connection, delete, select

from looptap_collector.backends import tables
from looptap_collector.backends.data import delete_unused
from looptap_collector.backends.slices import slices
from looptap_collector.backends.standing import lock_runs


def delete_run(connection: Connection, run: str) -> bool:
    """The rows of artifacts go when no other run refers to them; their contents are left to ``gc``."""
    if not lock_runs(connection, [run]):
        return False
    lineage = tables.lineage.c
    of_run = select(lineage.digest).where(lineage.run == run, lineage.digest.is_not(None)).distinct()
    digests = list(connection.execute(of_run).scalars())
    of_series = select(tables.series.c.id).where(tables.series.c.run == run)
    for table in (tables.outline, tables.chunk):
        connection.execute(delete(table).where(table.c.series_id.in_(of_series)))
    delete_unused(connection, run)
    records = (tables.param, tables.tag, tables.lineage, tables.alert, tables.serving_window, tables.note)
    for table in (tables.series, *records, tables.ledger, tables.run):
        connection.execute(delete(table).where(table.c.run == run))
    for some in slices(sorted(digests)):
        elsewhere = set(connection.execute(select(lineage.digest).where(lineage.digest.in_(some))).scalars())
        unused = [digest for digest in some if digest not in elsewhere]
        connection.execute(delete(tables.artifact).where(tables.artifact.c.digest.in_(unused)))
    return True
