"""Points of a series out of its chunks: all of them, those between two steps, or few enough for a chart.

A chart of very many points is made from outlines where there are any, and from the chunks where not: short ones, and those
that reach over the bounds of the chart, whose outline may stand for points outside. See decision 0012.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Connection, and_, select, true

from looptap.events import Context
from looptap_collector import chunks
from looptap_collector.backend import History
from looptap_collector.backends import tables
from looptap_collector.backends.outlines import RATIO, in_order, outlined
from looptap_collector.backends.slices import slices
from looptap_collector.backends.summaries import Columns, context_text, joined
from looptap_collector.thinning import thin

#: The first and the last step that are asked for.
Bounds: TypeAlias = tuple[int, int] | None

_chunk, _outline = tables.chunk.c, tables.outline.c
#: Chunks that are in memory at once as they are stored.
_CHUNKS_AT_ONCE = 16


def history(connection: Connection, run: str, key: str, context: Context, steps: Bounds) -> History:
    series_id = _series_id(connection, run, key, context)
    chosen = select(_chunk.data).where(_chunk.series_id == series_id, _touching(steps)).order_by(_chunk.part)
    return in_order(joined([_within(_decoded(blob), steps) for blob in connection.execute(chosen).scalars()]))


def chart(connection: Connection, run: str, key: str, context: Context, points: int, steps: Bounds) -> History:
    """Several statements of one moment: the transaction of the caller has to be a snapshot."""
    series_id = _series_id(connection, run, key, context)
    chosen = (
        select(
            _chunk.part,
            _chunk.count.label("points"),
            _chunk.first_step,
            _chunk.last_step,
            _outline.part.label("outlined"),
        )
        .join(tables.outline, and_(_outline.series_id == _chunk.series_id, _outline.part == _chunk.part), isouter=True)
        .where(_chunk.series_id == series_id, _touching(steps))
        .order_by(_chunk.part)
    )
    parts = connection.execute(chosen).all()
    # Of a chunk that reaches over the bounds, who knows how much is asked for.
    if sum(part.points for part in parts if _is_inside(part, steps)) < points * RATIO:
        exact = _exact(connection, series_id, [part.part for part in parts])
        candidates = [_within(piece, steps) for _, piece in exact]
    else:
        candidates = _outlines(connection, series_id, parts, steps)
    return thin(in_order(joined(candidates)), points)


def _outlines(connection: Connection, series_id: int, parts: Sequence[Any], steps: Bounds) -> list[Columns]:
    found: dict[int, Columns] = {}
    usable = [part.part for part in parts if part.outlined is not None and _is_inside(part, steps)]
    for some in slices(usable):
        chosen = select(_outline.part, _outline.data).where(_outline.series_id == series_id, _outline.part.in_(some))
        for part, blob in connection.execute(chosen):
            try:
                found[part] = _decoded(blob)
            except chunks.DamagedChunk:
                continue  # its chunk is there and is read instead
    missing = [part.part for part in parts if part.part not in found]
    for part, piece in _exact(connection, series_id, missing):
        found[part] = outlined(_within(piece, steps))
    return [found[part.part] for part in parts]


def _exact(connection: Connection, series_id: int, parts: Sequence[int]) -> Iterator[tuple[int, Columns]]:
    for some in slices(parts, _CHUNKS_AT_ONCE):
        chosen = select(_chunk.part, _chunk.data).where(_chunk.series_id == series_id, _chunk.part.in_(some))
        for part, blob in connection.execute(chosen.order_by(_chunk.part)):
            yield part, _decoded(blob)


def _series_id(connection: Connection, run: str, key: str, context: Context) -> int:
    columns = tables.series.c
    wanted = (columns.run == run) & (columns.key == key) & (columns.context == context_text(context))
    series_id = connection.execute(select(columns.id).where(wanted)).scalar_one_or_none()
    if series_id is None:
        raise KeyError(f"run {run!r} has no series {key!r} with context {context!r}")
    return int(series_id)


def _touching(steps: Bounds) -> ColumnElement[bool]:
    return true() if steps is None else and_(_chunk.last_step >= steps[0], _chunk.first_step <= steps[1])


def _is_inside(part: Any, steps: Bounds) -> bool:
    return steps is None or bool(steps[0] <= part.first_step and part.last_step <= steps[1])


def _within(points: Columns, steps: Bounds) -> Columns:
    if steps is None:
        return points
    inside = (points.steps >= steps[0]) & (points.steps <= steps[1])
    if inside.all():
        return points
    return Columns(points.steps[inside], points.times_ns[inside], points.values[inside])


def _decoded(blob: bytes) -> Columns:
    return Columns(*chunks.decode(blob))
