"""Windows of serving as rows: columns for what is asked by, and the window as it was told."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, and_, func, or_, select

from looptap.events import Window
from looptap_collector.backend import RunWindow, Served, WindowQuery
from looptap_collector.backends import tables
from looptap_collector.backends.dialects import upsert
from looptap_collector.backends.slices import slices
from looptap_collector.windows import added_up, supersedes

_window = tables.serving_window.c
_KNOWN = select(_window.digest, _window.requests, _window.stretch).where(_window.digest.in_(tables.names("ids")))


def write_windows(connection: Connection, told: Sequence[RunWindow]) -> None:
    """In order. Nobody else writes windows of these runs meanwhile."""
    ids = [one.id for one in told]
    known: dict[str, float] = {}
    for some in slices(sorted(set(ids))):
        for id, requests, stretch in connection.execute(_KNOWN, {"ids": some}):
            known[id] = inf if stretch else requests  # what is part of a longer window counts already
    rows = {}
    for id, one in zip(ids, told, strict=True):
        if id not in known or supersedes(one.window.requests, known[id]):
            known[id] = one.window.requests
            rows[id] = row_of(one)
    upsert(connection, tables.serving_window, list(rows.values()))


def row_of(one: RunWindow, stretch: int = 0) -> dict[str, Any]:
    window = one.window
    return {
        "digest": one.id,
        "run": one.run,
        "journal": one.journal,
        **{name: getattr(window, name) for name in ("model", "version", "endpoint", "split", "time_ns", "requests")},
        "errors": sum(window.errors.values()),
        "told": msgspec.msgpack.encode(window),
        "stretch": stretch,
    }


def found(connection: Connection, query: WindowQuery) -> list[RunWindow]:
    columns = (_window.digest, _window.time_ns, _window.run, _window.journal, _window.told)
    chosen = select(*columns).order_by(_window.time_ns.desc(), _window.digest).limit(query.limit)
    chosen = chosen.where(*_between(query.since_ns, query.until_ns))
    chosen = chosen.where(_window.split.is_not(None) if query.reference else _NO_SPLIT)
    if query.before is not None:
        time_ns, id = query.before
        behind = and_(_window.time_ns == time_ns, _window.digest > id)
        # Said twice, so that an index on the time is of use.
        chosen = chosen.where(_window.time_ns <= time_ns, or_(_window.time_ns < time_ns, behind))
    rows: list[Row[Any]] = []
    # Of long lists each slice gives its latest; together they hold the latest of all.
    narrowed = [chosen]
    for column, names in ((_window.run, query.runs), (_window.model, query.models), (_window.version, query.versions)):
        if names is not None:
            parts = list(slices(sorted(set(names))))
            narrowed = [one.where(column.in_(some)) for one in narrowed for some in parts]
    for one in narrowed:
        rows += connection.execute(one)
    rows.sort(key=lambda row: (-row.time_ns, row.digest))
    return [RunWindow(row.run, row.journal, window_of(row.told)) for row in rows[: query.limit]]


def served(
    connection: Connection, since_ns: int | None, until_ns: int | None, runs: Sequence[str] | None
) -> list[Served]:
    sums = [func.sum(_window.requests), func.sum(_window.errors), func.count()]
    grouped = select(_window.model, _window.version, *sums, func.min(_window.time_ns), func.max(_window.time_ns))
    grouped = grouped.where(*_between(since_ns, until_ns), _NO_SPLIT, _window.requests > 0).group_by(
        _window.model, _window.version
    )
    narrowed = (
        [grouped] if runs is None else [grouped.where(_window.run.in_(some)) for some in slices(sorted(set(runs)))]
    )
    # Sums are decimals on some engines.
    return added_up(
        Served(model, version, *map(int, numbers))
        for one in narrowed
        for model, version, *numbers in connection.execute(one)
    )


def window_of(told: bytes) -> Window:
    """Raises :class:`msgspec.MsgspecError` for what is none."""
    return msgspec.msgpack.decode(told, type=Window)


_NO_SPLIT = _window.split.is_(None)


def _between(since_ns: int | None, until_ns: int | None) -> list[Any]:
    since = [] if since_ns is None else [_window.time_ns >= since_ns]
    return since if until_ns is None else [*since, _window.time_ns < until_ns]
