"""Long chunks out of neighbouring full ones, and their outlines (decision 0012).

Full chunks never change otherwise, so most of the work is done outside of any transaction: a group of neighbours is read and
its successor encoded; then, in one short transaction that holds the run as a writer does, the group is replaced, provided
that it is still the same. Whoever reads sees the old chunks or the new one. Order of arrival stays the order of parts; the
new chunk takes the first number of its group, so numbers have gaps from then on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

import msgspec
from sqlalchemy import Connection, and_, delete, insert, select

from looptap_collector import chunks
from looptap_collector.backend import Compaction
from looptap_collector.backends import tables
from looptap_collector.backends.appending import chunk_row
from looptap_collector.backends.dialects import insert_chunks
from looptap_collector.backends.outlines import LONG_POINTS, outline
from looptap_collector.backends.standing import lock_runs
from looptap_collector.backends.summaries import Columns, Summary, joined

T = TypeVar("T")
_chunk, _outline, _series = tables.chunk.c, tables.outline.c, tables.series.c
_SERIES_AT_ONCE = 1_000


class Store(Protocol):
    """What compaction needs of a backend."""

    def snapshot(self) -> AbstractContextManager[Connection]: ...

    def change(self, work: Callable[[Connection], T]) -> T: ...


class Part(msgspec.Struct, frozen=True):
    """A chunk as planning sees it."""

    part: int
    count: int
    has_outline: bool


def compact(store: Store, run: str | None, at_least: int, within_s: float | None) -> Compaction:
    """See :meth:`looptap_collector.backend.Backend.compact`."""
    deadline = None if within_s is None else time.monotonic() + within_s
    total = Compaction()
    for series in _candidates(store, run, at_least):
        with store.snapshot() as connection:
            parts = _full_parts(connection, series)
        done = Compaction(series=1)
        for group in groups(parts):
            if deadline is not None and time.monotonic() >= deadline:
                return (total.plus(done) if done.has_changed else total).plus(Compaction(is_complete=False))
            done = done.plus(_compact_group(store, series, group))
        if done.has_changed or done.damaged:
            total = total.plus(done)
    return total


def groups(parts: Sequence[Part]) -> list[list[Part]]:
    """Neighbours that fit into one chunk and are not one yet, or a long one without outline. What they become is in no group
    the next time."""
    found: list[list[Part]] = []
    room = 0
    for part in parts:
        if found and part.count <= room:
            found[-1].append(part)
            room -= part.count
        else:
            found.append([part])
            room = chunks.MAX_POINTS - part.count
    return [group for group in found if len(group) > 1 or (group[0].count >= LONG_POINTS and not group[0].has_outline)]


def _candidates(store: Store, run: str | None, at_least: int) -> Iterator[Any]:
    after = -1
    while True:
        chosen = select(_series.id, _series.run, _series.tail_part).where(
            _series.id > after, _series.tail_part >= at_least
        )
        if run is not None:
            chosen = chosen.where(_series.run == run)
        with store.snapshot() as connection:
            rows = connection.execute(chosen.order_by(_series.id).limit(_SERIES_AT_ONCE)).all()
        if not rows:
            return
        yield from rows
        after = rows[-1].id


def _full_parts(connection: Connection, series: Any) -> list[Part]:
    of_chunk = and_(_outline.series_id == _chunk.series_id, _outline.part == _chunk.part)
    chosen = (
        select(_chunk.part, _chunk.count, _outline.part.is_not(None))
        .join(tables.outline, of_chunk, isouter=True)
        .where(_chunk.series_id == series.id, _chunk.part < series.tail_part)
        .order_by(_chunk.part)
    )
    return [Part(part, count, bool(has_outline)) for part, count, has_outline in connection.execute(chosen)]


def _compact_group(store: Store, series: Any, group: Sequence[Part]) -> Compaction:
    stored = _blobs(series.id, group)
    with store.snapshot() as connection:
        blobs = [tuple(row) for row in connection.execute(stored)]
    if [(part, count) for part, count, _ in blobs] != [(part.part, part.count) for part in group]:
        return Compaction()  # somebody else was here: the next compaction sees how it is now
    neighbours, damaged = _readable(blobs)
    outlined = {part.part for part in group if part.has_outline}
    chunk_rows, outline_rows, gone = [], [], []
    merged = 0
    for first, pieces in neighbours:
        points = joined(pieces)
        if len(pieces) > 1:
            chunk_rows.append({"series_id": series.id, "part": first, **chunk_row(points, Summary.of(points))})
            gone += [part for part, _, _ in blobs if part >= first][: len(pieces)]
            merged += len(pieces)
        elif first in outlined:
            continue
        if len(points) >= LONG_POINTS:
            outline_rows.append({"series_id": series.id, "part": first, "data": outline(points)})
    done = Compaction(
        merged=merged,
        made=len(chunk_rows),
        outlines=len(outline_rows),
        damaged=damaged,
        points=sum(map(_count, chunk_rows)),
    )
    if not (chunk_rows or outline_rows):
        return done

    def replace(connection: Connection) -> Compaction:
        if not lock_runs(connection, [series.run]):
            return Compaction()
        if [tuple(row) for row in connection.execute(stored)] != blobs:
            return Compaction()
        if gone:
            for columns, table in ((_chunk, tables.chunk), (_outline, tables.outline)):
                connection.execute(delete(table).where(columns.series_id == series.id, columns.part.in_(gone)))
        insert_chunks(connection, chunk_rows)
        if outline_rows:
            new = [row["part"] for row in outline_rows]
            connection.execute(delete(tables.outline).where(_outline.series_id == series.id, _outline.part.in_(new)))
            connection.execute(insert(tables.outline), outline_rows)
        return done

    return store.change(replace)


def _blobs(series_id: int, group: Sequence[Part]) -> Any:
    between = _chunk.part.between(group[0].part, group[-1].part)
    return (
        select(_chunk.part, _chunk.count, _chunk.data)
        .where(_chunk.series_id == series_id, between)
        .order_by(_chunk.part)
    )


def _readable(blobs: Sequence[tuple[int, int, bytes]]) -> tuple[list[tuple[int, list[Columns]]], int]:
    """Neighbours with the number of the first of them, and how many chunks could not be read: these stay where they are."""
    neighbours: list[tuple[int, list[Columns]]] = []
    damaged = 0
    is_new = True
    for part, count, blob in blobs:
        try:
            points = Columns(*chunks.decode(blob))
        except chunks.DamagedChunk:
            points = None
        if points is None or len(points) != count:
            damaged += 1
            is_new = True
            continue
        if is_new:
            neighbours.append((part, []))
        neighbours[-1][1].append(points)
        is_new = False
    return neighbours, damaged


def _count(row: dict[str, Any]) -> int:
    return int(row["count"])
