"""Runs by filter, order and cursor in plain Python, for stores that are no SQL engines. Says what
:mod:`looptap_collector.backends.searching` says.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from functools import total_ordering
from typing import Any, TypeAlias

from looptap_collector.backend import Backend, RunPage, RunQuery, SeriesRow
from looptap_collector.doubles import exact
from looptap_collector.filters import ordering
from looptap_collector.filters.evaluation import RunView, as_double, evaluate, values_of
from looptap_collector.filters.fields import kind_of
from looptap_collector.filters.ordering import Place, SortValue, Term
from looptap_collector.filters.parsing import parse
from looptap_collector.filters.tree import Field

_Key: TypeAlias = tuple[Any, ...]


def search(backend: Backend, query: RunQuery) -> RunPage:
    """See :meth:`looptap_collector.backend.Backend.search`. Reads the rows and summaries of all runs, not in one moment."""
    terms = ordering.parse_order(query.order)
    tree = None if query.filter is None else parse(query.filter)
    query_print = ordering.fingerprint(query.filter, query.order)
    views = (view for view in _views(backend) if tree is None or evaluate(tree, view))
    places = [(Place(query_print, tuple(_value(term, view) for term in terms), view.row.run), view) for view in views]
    if query.cursor is not None:
        begin = _key(terms, ordering.parse_cursor(query.cursor, query.filter, query.order, terms))
        places = [(place, view) for place, view in places if _key(terms, place) > begin]
    found = heapq.nsmallest(query.limit + 1, places, key=lambda item: _key(terms, item[0]))
    page = found[: query.limit]
    following = ordering.cursor(page[-1][0]) if len(found) > len(page) else None
    return RunPage(tuple(view.row for _, view in page), following)


def _views(backend: Backend) -> Iterator[RunView]:
    rows = backend.runs()
    runs = [row.run for row in rows]
    params, tags = backend.current_params(runs), backend.current_tags(runs)
    series: dict[str, list[SeriesRow]] = {}
    for summary in backend.series(runs):
        series.setdefault(summary.run, []).append(summary)
    for row in rows:
        yield RunView(row, params.get(row.run, {}), tags.get(row.run, {}), series.get(row.run, []))


def _value(term: Term, view: RunView) -> SortValue:
    """Of several series the one that comes first stands for the run."""
    values = (_sortable(term.field, value) for value in values_of(term.field, view))
    known: list[Any] = [value for value in values if value is not None]
    return (max if term.descending else min)(known, default=None)


def _sortable(field: Field, value: Any) -> SortValue:
    """As the cursor has it: None for what has no place in an order."""
    if field.source == "params":
        number = as_double(value)
        return number if number is not None and math.isfinite(number) else None
    if kind_of(field) == "text":
        return str(value)[: ordering.TEXT_CHARACTERS]
    if isinstance(value, float):
        return None if math.isnan(value) else exact(value)
    return int(value)


def _key(terms: Sequence[Term], place: Place) -> _Key:
    """Where the place is in the list: runs without a value come last, equal ones by id in the direction of the first term."""
    values = (
        (value is None, _Downwards(value) if term.descending else value)
        for term, value in zip(terms, place.values, strict=True)
    )
    return (*values, _Downwards(place.run) if terms[0].descending else place.run)


@total_ordering
class _Downwards:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Downwards) and bool(self.value == other.value)

    def __lt__(self, other: _Downwards) -> bool:
        return bool(other.value < self.value)
