"""Long windows of serving out of old short ones, so that a model that is served for years does not fill its store.

As with long chunks, windows are read and merged outside of any transaction; then, in one short transaction that holds the run as a
writer does, they are replaced, provided that they are still the same. Whoever reads sees the old ones or the new one, several
stores that do so at once do it once, and a process that is killed leaves one or the other.

A window may be told twice: a process that is killed leaves a copy of its last ones, which is delivered whenever somebody finds it.
So the last windows of a journal that has not told its end are left as they are; an earlier one never comes again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any, NamedTuple, Protocol, TypeVar

from sqlalchemy import Connection, and_, delete, or_, select

from looptap.events import Window
from looptap_collector.backend import MergedWindows, RunWindow
from looptap_collector.backends import tables
from looptap_collector.backends.dialects import upsert
from looptap_collector.backends.slices import slices
from looptap_collector.backends.standing import lock_runs
from looptap_collector.backends.windows import row_of, window_of
from looptap_collector.long_windows import FORMS, Form, merged

T = TypeVar("T")
_window, _ledger = tables.serving_window.c, tables.ledger.c
_NS = 10**9
_ROWS_AT_ONCE = 1_000
_END = 2**63 - 1


class Store(Protocol):
    """What merging needs of a backend."""

    def snapshot(self) -> AbstractContextManager[Connection]: ...

    def change(self, work: Callable[[Connection], T]) -> T: ...


class _Group(NamedTuple):
    """Windows that belong together: all that was told of this in the time from ``since_ns``."""

    run: str
    journal: str
    model: str
    version: str | None
    endpoint: str
    since_ns: int


def merge_windows(store: Store, run: str | None, within_s: float | None) -> MergedWindows:
    """See :meth:`looptap_collector.backend.Backend.merge_windows`."""
    deadline = None if within_s is None else time.monotonic() + within_s
    last = _LastWindows(store)
    total = MergedWindows()
    before = 0
    for form in FORMS:
        for group in _groups(store, run, form, before, last):
            if deadline is not None and time.monotonic() >= deadline:
                return total.plus(MergedWindows(is_complete=False))
            total = total.plus(_merge(store, group, form.stretch, last.of(group.run, group.journal)))
        before = form.stretch
    return total


class _LastWindows:
    """When the last windows began of each journal that may still tell some; beyond all times for the others."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[tuple[str, str], int] = {}

    def of(self, run: str, journal: str) -> int:
        which = (run, journal)
        if which not in self._known:
            self._known[which] = self._asked(run, journal)
        return self._known[which]

    def _asked(self, run: str, journal: str) -> int:
        latest = select(_window.time_ns).where(_window.run == run, _window.journal == journal, _window.split.is_(None))
        with self._store.snapshot() as connection:
            end = connection.execute(select(_ledger.status).where(_ledger.journal == journal)).scalar_one_or_none()
            if end is not None:
                return _END
            return int(connection.execute(latest.order_by(_window.time_ns.desc()).limit(1)).scalar_one_or_none() or 0)


def _groups(store: Store, run: str | None, form: Form, before: int, last: _LastWindows) -> Iterator[_Group]:
    """Those that are old enough and not in this form yet, but in the one before it, the oldest first. Only whole stretches."""
    stretch_ns = form.stretch * _NS
    until_ns = (time.time_ns() - form.age * _NS) // stretch_ns * stretch_ns
    chosen = select(
        _window.run,
        _window.journal,
        _window.model,
        _window.version,
        _window.endpoint,
        _window.time_ns,
        _window.digest,
    ).where(_window.stretch == before, _window.time_ns < until_ns, _window.split.is_(None))
    if run is not None:
        chosen = chosen.where(_window.run == run)
    chosen = chosen.order_by(_window.time_ns, _window.digest).limit(_ROWS_AT_ONCE)
    page = chosen
    while True:
        with store.snapshot() as connection:
            rows = connection.execute(page).all()
        if not rows:
            return
        yield from dict.fromkeys(
            _Group(*row[:5], row.time_ns // stretch_ns * stretch_ns)
            for row in rows
            if row.time_ns < last.of(row.run, row.journal)
        )
        time_ns, digest = rows[-1].time_ns, rows[-1].digest
        behind = or_(_window.time_ns > time_ns, and_(_window.time_ns == time_ns, _window.digest > digest))
        # Said twice, so that an index on the time is of use.
        page = chosen.where(_window.time_ns >= time_ns, behind)


def _merge(store: Store, group: _Group, stretch: int, before_ns: int) -> MergedWindows:
    stored = _rows_of(group, stretch, before_ns)
    with store.snapshot() as connection:
        rows = [tuple(row) for row in connection.execute(stored)]
    readable, windows = _merged(rows)
    made = [row_of(RunWindow(group.run, group.journal, one), stretch) for one in windows]
    gone = readable.keys() - {row["digest"] for row in made}
    done = MergedWindows(len(readable), len(made)) if gone else MergedWindows()

    def replace(connection: Connection) -> MergedWindows:
        if not lock_runs(connection, [group.run]):
            return MergedWindows()
        if [tuple(row) for row in connection.execute(stored)] != rows:
            return MergedWindows()  # somebody else was here: the next time sees how it is now
        for some in slices(sorted(gone)):
            connection.execute(delete(tables.serving_window).where(_window.digest.in_(some)))
        upsert(connection, tables.serving_window, made)
        return done

    return store.change(replace).plus(MergedWindows(damaged=len(rows) - len(readable)))


def _rows_of(group: _Group, stretch: int, before_ns: int) -> Any:
    """What is in that stretch, in whatever form up to this one: a process whose collector was away tells some of it later."""
    until_ns = min(before_ns, group.since_ns + stretch * _NS)
    version = _window.version.is_(None) if group.version is None else _window.version == group.version
    return (
        select(_window.digest, _window.told)
        .where(_window.run == group.run, _window.journal == group.journal, _window.model == group.model, version)
        .where(_window.endpoint == group.endpoint, _window.split.is_(None), _window.stretch <= stretch)
        .where(_window.time_ns >= group.since_ns, _window.time_ns < until_ns)
        .order_by(_window.time_ns, _window.digest)
    )


def _merged(rows: Sequence[tuple[str, bytes]]) -> tuple[dict[str, Window], list[Window]]:
    """The windows by their ids, and what they become together. Those that cannot be read are in neither."""
    found: dict[str, Window] = {}
    for digest, told in rows:
        with suppress(ValueError):
            found[digest] = window_of(told)
    try:
        return found, merged(found.values())
    except ValueError:  # a sketch
        found = {digest: window for digest, window in found.items() if _is_readable(window)}
        return found, merged(found.values())


def _is_readable(window: Window) -> bool:
    try:
        return bool(merged([window]))
    except ValueError:
        return False
