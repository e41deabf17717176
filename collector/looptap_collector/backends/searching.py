"""Runs by filter, order and cursor, on any SQL engine.

First the ids of a page are found, from narrow rows; only then are the rows of these runs read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, ColumnElement, Connection, Subquery, and_, false, func, or_, select, type_coerce

from looptap_collector.backend import RunPage, RunQuery
from looptap_collector.backends import reading, tables
from looptap_collector.filters import ordering, parse
from looptap_collector.filters.engines import exact_text
from looptap_collector.filters.fields import kind_of
from looptap_collector.filters.ordering import Place, SortValue, Term
from looptap_collector.filters.sql import condition, run_column, series_selected

_INF = float("inf")


def search(connection: Connection, query: RunQuery) -> RunPage:
    """See :meth:`looptap_collector.backend.Backend.search`. In a transaction of the caller, so that all is of one moment."""
    terms = ordering.parse_order(query.order)
    keys = [_key(term) for term in terms]
    run = tables.run.c.run
    source: Any = tables.run
    for key in keys:
        if key.entries is not None:
            source = source.outerjoin(key.entries, key.entries.c.run == run)
    chosen = select(run, *(key.value.label(f"value_{number}") for number, key in enumerate(keys))).select_from(source)
    if query.filter is not None:
        chosen = chosen.where(condition(parse(query.filter)))
    if query.cursor is not None:
        place = ordering.parse_cursor(query.cursor, query.filter, query.order, terms)
        chosen = chosen.where(_behind(keys, place))
    for key in keys:
        # Runs without the value come last, whichever way the others go.
        missing_last = [key.value.is_(None)] if key.nullable else []
        chosen = chosen.order_by(*missing_last, key.value.desc() if key.descending else key.value)
    by_id = run.desc() if keys[0].descending else run.asc()
    found = connection.execute(chosen.order_by(by_id).limit(query.limit + 1)).all()
    page = found[: query.limit]
    following = None
    if len(found) > len(page):
        query_print = ordering.fingerprint(query.filter, query.order)
        following = ordering.cursor(Place(query_print, tuple(page[-1][1:]), page[-1][0]))
    return RunPage(tuple(reading.runs_by_id(connection, [row[0] for row in page])), following)


class _Key(NamedTuple):
    """One term of the order as a value to sort by: an integer, a double or a text, null for runs that have nothing there.

    ``entries`` has at most one row for each run and is to be joined to it.
    """

    value: ColumnElement[Any]
    descending: bool
    nullable: bool = True
    entries: Subquery | None = None


def _key(term: Term) -> _Key:
    field, descending = term.field, term.descending
    if field.source == "run":
        column = run_column(field.key)
        nullable = bool(getattr(column, "nullable", True))
        if kind_of(field) == "text" and field.key != "id":
            column = _beginning(column)
        return _Key(column, descending, nullable)
    if field.source == "tags":
        tag = tables.tag.c
        entries = select(tag.run, tag.value.label("value")).where(tag.key == field.key).subquery()
        return _Key(_beginning(entries.c.value), descending, entries=entries)
    # Of several series the one that comes first stands for the run.
    first = func.max if descending else func.min
    if field.source == "params":
        param = tables.param.c
        chosen = select(param.run, first(param.number).label("value"))
        chosen = chosen.where(param.key == field.key, param.is_current == 1).group_by(param.run)
    else:
        series = tables.series.c
        column = series[field.stat]
        chosen = select(series.run, first(type_coerce(column, BigInteger)).label("value"))
        chosen = chosen.where(series_selected(field)).group_by(series.run)
        if field.stat in ("last", "min", "max"):
            chosen = chosen.where(column <= _INF)  # NaN has no place in an order
    entries = chosen.subquery()
    return _Key(entries.c.value, descending, entries=entries)


def _beginning(text: ColumnElement[Any]) -> ColumnElement[Any]:
    return exact_text(func.substr(text, 1, ordering.TEXT_CHARACTERS))


def _behind(keys: Sequence[_Key], place: Place) -> ColumnElement[bool]:
    """Rows that come after the place: equal in the first terms and behind in the next, or equal in all with an id behind."""
    run = tables.run.c.run
    behind: ColumnElement[bool] = run < place.run if keys[0].descending else run > place.run
    for key, value in reversed(list(zip(keys, place.values, strict=True))):
        behind = or_(_after(key, value), and_(_same(key, value), behind))
    first, value = keys[0], place.values[0]
    if not first.nullable and value is not None:
        # Says nothing new, but an engine can look it up in an index.
        behind = and_(first.value <= value if first.descending else first.value >= value, behind)
    return behind


def _after(key: _Key, value: SortValue) -> ColumnElement[bool]:
    if value is None:
        return false()
    further: ColumnElement[bool] = key.value < value if key.descending else key.value > value
    return or_(further, key.value.is_(None)) if key.nullable else further


def _same(key: _Key, value: SortValue) -> ColumnElement[bool]:
    return key.value.is_(None) if value is None else key.value == value
