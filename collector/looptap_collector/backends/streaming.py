"""Everything that a run has in a store, row by row, in bounded memory: for those who look at all of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Table, and_, or_, select

from looptap_collector.backends import tables
from looptap_collector.backends.slices import slices

#: Tables of what a run told beside its points.
RECORDS = (
    tables.param,
    tables.tag,
    tables.lineage,
    tables.run_dataset,
    tables.alert,
    tables.serving_window,
    tables.note,
    tables.ledger,
)
#: A chunk takes 1.6 MB at most.
_CHUNKS_AT_ONCE = 32


def run_ids(connection: Connection) -> list[str]:
    return list(connection.execute(select(tables.run.c.run).order_by(tables.run.c.run)).scalars())


def run_row(connection: Connection, run: str) -> dict[str, Any] | None:
    """With the name of its ``experiment`` in the place of a number that is the store's own. None for an unknown run."""
    chosen = select(tables.run, tables.experiment.c.name.label("experiment")).join(tables.experiment)
    found = connection.execute(chosen.where(tables.run.c.run == run)).mappings().one_or_none()
    return None if found is None else {name: value for name, value in found.items() if name != "experiment_id"}


def record_rows(connection: Connection, table: Table, run: str) -> Iterator[dict[str, Any]]:
    """In order of emission, where there is one; without the number that is the store's own."""
    chosen = select(table).where(table.c.run == run).order_by(*table.primary_key.columns)
    for row in connection.execute(chosen).mappings():
        yield {name: value for name, value in row.items() if name != "id"}


def series_rows(connection: Connection, run: str) -> list[Row[Any]]:
    columns = tables.series.c
    return list(connection.execute(select(tables.series).where(columns.run == run).order_by(columns.id)))


def rows_of_series(connection: Connection, table: Table, series_ids: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Of ``chunk`` or ``outline``, in order of series and part."""
    columns = table.c
    for ids in slices(sorted(series_ids)):
        place = None
        while True:
            chosen = select(table).where(columns.series_id.in_(ids))
            if place is not None:
                behind = and_(columns.series_id == place[0], columns.part > place[1])
                chosen = chosen.where(or_(columns.series_id > place[0], behind))
            ordered = chosen.order_by(columns.series_id, columns.part).limit(_CHUNKS_AT_ONCE)
            rows = [dict(row) for row in connection.execute(ordered).mappings()]
            yield from rows
            if len(rows) < _CHUNKS_AT_ONCE:
                break
            place = (rows[-1]["series_id"], rows[-1]["part"])
