"""How points become chunks of their series, on any SQL engine, inside the transaction of a batch.

Points go into chunks. Full chunks (:data:`FULL_POINTS` or more) are never touched again. What comes in
smaller pieces waits as small chunks at the end of its series, known by the series' own row; when enough has
gathered, or the run ends, they become one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
    """Read the rows of the series concerned, add to them in memory, and write them back. The number of statements
    does not depend on the number of series."""
    if not columns:
        return
    rows = _series_rows(connection, run, columns)
    summaries = {name: Summary.of(points) for name, points in columns.items()}
    created = [name for name in columns if name not in rows]
    if created:
        new = [{"run": run, "key": name[0], "context": name[1], **_EMPTY, **summaries[name].row()} for name in created]
        connection.execute(insert(tables.series), new)
        rows = _series_rows(connection, run, columns)
    for name in columns.keys() - set(created):
        summaries[name] = _summary(rows[name]).then(summaries[name])
    tails = _take_tails(connection, [rows[name] for name, points in columns.items() if _is_due(rows[name], points)])
    chunk_rows: list[dict[str, Any]] = []
    changed = []
    for name, points in columns.items():
        state = _append(rows[name], tails.get(rows[name].id, []), points, chunk_rows)
        changed.append({**state, **summaries[name].row()})
    connection.execute(insert(tables.chunk), chunk_rows)
    connection.execute(_UPDATE_SERIES, changed)


def merge_small_chunks(connection: Connection, run: str) -> None:
    """Make one chunk of the small ones of every series: the run has ended, or has been given up."""
    columns = tables.series.c
    several = select(tables.series).where(columns.run == run, columns.next_part - columns.tail_part > 1)
    rows = connection.execute(several).all()
    # A run may have very many series; what is held in memory at once is a slice of them.
    for start in range(0, len(rows), _NAMES_AT_ONCE):
        some = rows[start : start + _NAMES_AT_ONCE]
        tails = _take_tails(connection, some)
        chunk_rows: list[dict[str, Any]] = []
        states = [_append(row, tail[:-1], tail[-1], chunk_rows) for row in some if (tail := tails[row.id])]
        if states:
            connection.execute(insert(tables.chunk), chunk_rows)
            connection.execute(_UPDATE_TAIL, states)


_EMPTY = {"next_part": 0, "tail_part": 0, "tail_points": 0}
_SUMMARY = [*Summary.__struct_fields__, "last_real", "min_real", "max_real"]
_THIS_SERIES = update(tables.series).where(tables.series.c.id == bindparam("series_id"))
_UPDATE_TAIL = _THIS_SERIES.values({name: bindparam(name) for name in _EMPTY})
_UPDATE_SERIES = _THIS_SERIES.values({name: bindparam(name) for name in [*_EMPTY, *_SUMMARY]})
_DELETE_TAIL = delete(tables.chunk).where(
    tables.chunk.c.series_id == bindparam("of_series"), tables.chunk.c.part >= bindparam("from_part")
)


def _series_rows(connection: Connection, run: str, names: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Row[Any]]:
    columns, keys = tables.series.c, iter({key for key, _ in names})
    rows = {}
    while some := list(islice(keys, _NAMES_AT_ONCE)):
        for row in connection.execute(select(tables.series).where(columns.run == run, columns.key.in_(some))):
            rows[row.key, row.context] = row
    return rows


def _summary(row: Row[Any]) -> Summary:
    return Summary(**{name: getattr(row, name) for name in Summary.__struct_fields__})


def _is_due(row: Row[Any], points: Columns) -> bool:
    """The small chunks make a full one with these points, or have become many."""
    small = row.next_part - row.tail_part
    return bool(small and (row.tail_points + len(points) >= FULL_POINTS or small + 1 >= MOST_SMALL))


def _take_tails(connection: Connection, rows: Sequence[Row[Any]]) -> dict[int, list[Columns] | None]:
    """The small chunks of these series by its id, in order; they are no longer in the store.

    None for a series with a damaged one among them: these stay as they are, so that damage on the disk to what was stored
    never keeps new points out.
    """
    tails: dict[int, list[Columns] | None] = {row.id: [] for row in rows}
    ids = iter(tails)
    of_series, of_chunk = tables.series.c, tables.chunk.c
    while some := list(islice(ids, _NAMES_AT_ONCE)):
        chosen = (
            select(of_chunk.series_id, of_chunk.data)
            .join(tables.series, of_series.id == of_chunk.series_id)
            .where(of_series.id.in_(some), of_chunk.part >= of_series.tail_part)
            .order_by(of_chunk.series_id, of_chunk.part)
        )
        for series_id, blob in connection.execute(chosen):
            tail = tails[series_id]
            try:
                if tail is not None:
                    tail.append(Columns(*chunks.decode(blob)))
            except chunks.DamagedChunk:
                tails[series_id] = None
    taken = [{"of_series": row.id, "from_part": row.tail_part} for row in rows if tails[row.id] is not None]
    if taken:
        connection.execute(_DELETE_TAIL, taken)
    return tails


def _append(
    row: Row[Any], tail: list[Columns] | None, points: Columns, chunk_rows: list[dict[str, Any]]
) -> dict[str, int]:
    """Add chunks for the points, together with the tail where that was taken, and return what changes in the row.

    Behind a tail that is None, because it could not be taken, a new one begins.
    """
    first = row.tail_part if tail else row.next_part
    tail_part = row.tail_part if tail is not None else row.next_part
    tail_points = 0 if tail or tail is None else row.tail_points
    together = joined([*(tail or ()), points])
    pieces = together.cut(chunks.MAX_POINTS)
    for part, piece in enumerate(pieces, start=first):
        chunk_rows.append({"series_id": row.id, "part": part, **_chunk_row(piece)})
    next_part = first + len(pieces)
    if len(together) >= FULL_POINTS:
        return {"series_id": row.id, "next_part": next_part, "tail_part": next_part, "tail_points": 0}
    return {
        "series_id": row.id,
        "next_part": next_part,
        "tail_part": tail_part,
        "tail_points": tail_points + len(together),
    }


def _chunk_row(points: Columns) -> dict[str, Any]:
    summary = Summary.of(points)
    return {
        "count": summary.count,
        "nan_count": summary.nan_count,
        "min": summary.min,
        "max": summary.max,
        "first_step": summary.first_step,
        "last_step": summary.last_step,
        "data": chunks.encode(points.steps, points.times_ns, points.values),
    }
