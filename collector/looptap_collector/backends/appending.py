"""How points become chunks of their series, on any SQL engine, inside the transaction of a batch.

Points go into chunks. Full chunks (:data:`FULL_POINTS` or more) are never touched again. What comes in
smaller pieces waits as small chunks at the end of its series, known by the series' own row; when enough has
gathered, or the run ends, they become one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select, update

from looptap_collector import chunks
from looptap_collector.backend import TooManySeries
from looptap_collector.backends import tables
from looptap_collector.backends.dialects import insert_chunks
from looptap_collector.backends.slices import slices
from looptap_collector.backends.summaries import Columns, Name, Points, Summary, joined

#: A chunk of so many points is good enough to stay: smaller ones cost more bytes per point.
FULL_POINTS = 2_048
#: So many small chunks are merged even if they do not fill one, or a slow series would have thousands.
MOST_SMALL = 16
#: More metrics than any program means to have; see decision 0015.
SERIES_PER_RUN = 100_000


def write_points(connection: Connection, points: Points) -> None:
    """Read the rows of the series concerned, add to them in memory, and write them back. The number of statements
    does not depend on the number of series."""
    if not points:
        return
    columns = {name: joined(pieces) for name, pieces in points.items()}
    rows = _series_rows(connection, columns)
    summaries = {name: Summary.of(new) for name, new in columns.items()}
    created = [name for name in columns if name not in rows]
    if created:
        _check_room(connection, created)
        fresh = [{**dict(zip(_NAME, name, strict=True)), **_EMPTY, **summaries[name].row()} for name in created]
        connection.execute(_INSERT_SERIES, fresh)
        rows |= _series_rows(connection, created)
    tails = _take_tails(connection, [rows[name] for name, new in columns.items() if _is_due(rows[name], new)])
    chunk_rows: list[dict[str, Any]] = []
    changed = []
    is_new = set(created)
    for name, new in columns.items():
        state = _append(rows[name], tails.get(rows[name].id, []), new, chunk_rows, summaries[name])
        whole = summaries[name] if name in is_new else _summary(rows[name]).then(summaries[name])
        changed.append({**state, **whole.row()})
    insert_chunks(connection, chunk_rows)
    connection.execute(_UPDATE_SERIES, changed)


def _check_room(connection: Connection, created: Iterable[Name]) -> None:
    """Raises :class:`TooManySeries`."""
    fresh = Counter(run for run, _, _ in created)
    known: dict[str, int] = {}
    for some in slices(sorted(fresh)):
        known.update((run, count) for run, count in connection.execute(_COUNT, {"runs": some}))
    for run, new in fresh.items():
        if known.get(run, 0) + new > SERIES_PER_RUN:
            raise TooManySeries(f"run {run!r} would have more than {SERIES_PER_RUN} series", field="series")


def merge_small_chunks(connection: Connection, runs: Iterable[str]) -> None:
    """Make one chunk of the small ones of every series: these runs have ended, or have been given up."""
    for some_runs in slices(sorted(set(runs))):
        rows = connection.execute(_WITH_SMALL_CHUNKS, {"runs": some_runs}).all()
        # A run may have very many series; what is held in memory at once is a slice of them.
        for some in slices(rows):
            tails = _take_tails(connection, some)
            chunk_rows: list[dict[str, Any]] = []
            states = [_append(row, tail[:-1], tail[-1], chunk_rows) for row in some if (tail := tails[row.id])]
            if states:
                insert_chunks(connection, chunk_rows)
                connection.execute(_UPDATE_TAIL, states)


_NAME = ("run", "key", "context")
_EMPTY = {"next_part": 0, "tail_part": 0, "tail_points": 0}
_SUMMARY = [*Summary.__struct_fields__, "last_real", "min_real", "max_real"]
_THIS_SERIES = update(tables.series).where(tables.series.c.id == bindparam("series_id"))
_UPDATE_TAIL = _THIS_SERIES.values({name: bindparam(name) for name in _EMPTY})
_UPDATE_SERIES = _THIS_SERIES.values({name: bindparam(name) for name in [*_EMPTY, *_SUMMARY]})
_DELETE_TAIL = delete(tables.chunk).where(
    tables.chunk.c.series_id == bindparam("of_series"), tables.chunk.c.part >= bindparam("from_part")
)


_series = tables.series.c
_INSERT_SERIES = insert(tables.series)
_SERIES = select(tables.series).where(_series.run.in_(tables.names("runs")), _series.key.in_(tables.names("keys")))
_COUNT = select(_series.run, func.count()).where(_series.run.in_(tables.names("runs"))).group_by(_series.run)
_WITH_SMALL_CHUNKS = select(tables.series).where(
    _series.run.in_(tables.names("runs")), _series.next_part - _series.tail_part > 1
)
_TAILS = (
    select(tables.chunk.c.series_id, tables.chunk.c.data)
    .join(tables.series, _series.id == tables.chunk.c.series_id)
    .where(_series.id.in_(tables.names("ids")), tables.chunk.c.part >= _series.tail_part)
    .order_by(tables.chunk.c.series_id, tables.chunk.c.part)
)


def _series_rows(connection: Connection, names: Iterable[Name]) -> dict[Name, Row[Any]]:
    """Those that exist."""
    wanted = set(names)
    rows = {}
    for runs in slices(sorted({name[0] for name in wanted})):
        for keys in slices(sorted({name[1] for name in wanted})):
            for row in connection.execute(_SERIES, {"runs": runs, "keys": keys}):
                if (name := (row.run, row.key, row.context)) in wanted:
                    rows[name] = row
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
    for ids in slices(list(tails)):
        for series_id, blob in connection.execute(_TAILS, {"ids": ids}):
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
    row: Row[Any],
    tail: list[Columns] | None,
    points: Columns,
    chunk_rows: list[dict[str, Any]],
    summary: Summary | None = None,
) -> dict[str, int]:
    """Add chunks for the points, together with the tail where that was taken, and return what changes in the row.
    ``summary`` is that of the points, where it is known.

    Behind a tail that is None, because it could not be taken, a new one begins.
    """
    first = row.tail_part if tail else row.next_part
    tail_part = row.tail_part if tail is not None else row.next_part
    tail_points = 0 if tail or tail is None else row.tail_points
    together = joined([*(tail or ()), points])
    pieces = together.cut(chunks.MAX_POINTS)
    for part, piece in enumerate(pieces, start=first):
        known = summary if piece is points else None
        chunk_rows.append({"series_id": row.id, "part": part, **chunk_row(piece, known or Summary.of(piece))})
    next_part = first + len(pieces)
    if len(together) >= FULL_POINTS:
        return {"series_id": row.id, "next_part": next_part, "tail_part": next_part, "tail_points": 0}
    return {
        "series_id": row.id,
        "next_part": next_part,
        "tail_part": tail_part,
        "tail_points": tail_points + len(together),
    }


def chunk_row(points: Columns, summary: Summary) -> dict[str, Any]:
    """The columns of a chunk but for its name. ``last_step`` is the highest step, ``first_step`` the lowest."""
    return {
        "count": summary.count,
        "nan_count": summary.nan_count,
        "min": summary.min,
        "max": summary.max,
        "first_step": summary.first_step,
        "last_step": summary.last_step,
        "data": chunks.encode(points.steps, points.times_ns, points.values),
    }
