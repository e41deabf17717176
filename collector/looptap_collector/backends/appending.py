"""How points become chunks of their series, on any SQL engine, inside the transaction of a batch.

Points go into chunks. Full chunks (:data:`FULL_POINTS` or more) are never touched again. What comes in
smaller pieces waits as small chunks at the end of its series, known by the series' own row; when enough has
gathered, or the run ends, they become one.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, bindparam, delete, insert, select, update

from looptap.events import Batch, Context
from looptap_collector import chunks
from looptap_collector.backends import tables
from looptap_collector.backends.summaries import Columns, Summary, columns_of, joined

#: A chunk of so many points is good enough to stay: smaller ones cost more bytes per point.
FULL_POINTS = 2_048
#: So many small chunks are merged even if they do not fill one, or a slow series would have thousands.
MOST_SMALL = 16
#: Names in one ``IN (…)``; engines bound the number of parameters.
_NAMES_AT_ONCE = 500


def context_text(context: Context) -> str:
    """Equal contexts give equal text."""
    return msgspec.json.encode(context, order="sorted").decode()


def columns_by_series(batch: Batch) -> dict[tuple[str, str], Columns]:
    pieces: dict[tuple[str, str], list[Columns]] = {}
    for points in batch.series:
        columns = columns_of(points)
        if len(columns):
            pieces.setdefault((points.key, context_text(points.context)), []).append(columns)
    return {name: joined(several) for name, several in pieces.items()}


def write_points(connection: Connection, run: str, columns: dict[tuple[str, str], Columns]) -> None:
    """Read the rows of the series concerned, add to them in memory, and write them back; in three statements
    if all exist."""
    if not columns:
        return
    rows = _series_rows(connection, run, columns)
    summaries = {name: Summary.of(points) for name, points in columns.items()}
    new = [name for name in columns if name not in rows]
    if new:
        connection.execute(
            insert(tables.series),
            [
                {
                    "run": run,
                    "key": key,
                    "context": context,
                    "next_part": 0,
                    "tail_part": 0,
                    "tail_points": 0,
                    **summaries[key, context].row(),
                }
                for key, context in new
            ],
        )
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


def _series_rows(connection: Connection, run: str, names: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Row[Any]]:
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
    """New chunks for the points, and the series' new tail. Takes the small chunks in when that makes a full
    one, or when they have become many."""
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
        rows.append(
            {
                "series_id": series_id,
                "part": part,
                "count": summary.count,
                "nan_count": summary.nan_count,
                "min": summary.min,
                "max": summary.max,
                "first_step": summary.first_step,
                "last_step": summary.last_step,
                "data": chunks.encode(piece.steps, piece.times_ns, piece.values),
            }
        )
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
