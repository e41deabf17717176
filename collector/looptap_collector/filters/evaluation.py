"""A filter on one run in plain Python, for stores that are no SQL engines. Says what :mod:`looptap_collector.filters.sql` says."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from looptap.events import Environment, RunStarted
from looptap_collector.backend import RunRow, SeriesRow
from looptap_collector.filters import tree
from looptap_collector.filters.tree import Compare, Exists, Field, Not, Operator, Tree, Value

COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
#: A run that claims to have been under way outside of the years 1824 to 2116 has no duration: the difference of two
#: arbitrary 64-bit times is not one.
SANE_NS = 1 << 62
#: How JSON writes a NUL. Some engines cannot decode it: a param with one is found by = and !=, not by ~, and of a record
#: with one (host, user, script; git.commit, git.branch) no field is known.
ESCAPED_NUL = "\\u0000"


class RunView(msgspec.Struct, frozen=True):
    """What a filter may ask of a run. ``params`` are the newest values, ``series`` the summaries of all its series."""

    row: RunRow
    params: Mapping[str, object]
    tags: Mapping[str, str]
    series: Sequence[SeriesRow]


def evaluate(item: Tree, run: RunView) -> bool:
    """Whether the run is one of those that the filter looks for."""
    if isinstance(item, tree.All):
        return all(evaluate(part, run) for part in item.items)
    if isinstance(item, tree.Any):
        return any(evaluate(part, run) for part in item.items)
    if isinstance(item, Not):
        return not evaluate(item.item, run)
    if isinstance(item, Exists):
        return any(True for _ in values_of(item.field, run))
    return any(_holds(value, item) for value in values_of(item.field, run))


def duration_ns(row: RunRow) -> int | None:
    """From start to end, or to the last sign of life of a run that has not ended; None for absurd times."""
    last = row.ended_ns if row.ended_ns is not None else max(row.started_ns, row.heartbeat_ns or row.started_ns)
    if not (-SANE_NS < row.started_ns < SANE_NS and -SANE_NS < last < SANE_NS):
        return None
    return max(0, last - row.started_ns)


def values_of(field: Field, run: RunView) -> Iterator[Any]:
    """None stands for a param that is None; whatever else a run does not have is left out."""
    if field.source == "params":
        if field.key in run.params:
            yield run.params[field.key]
        return
    for value in _known_values(field, run):
        if value is not None:
            yield value


def _known_values(field: Field, run: RunView) -> Iterator[Any]:
    if field.source == "metrics":
        for series in run.series:
            if series.key == field.key and _selected(series, field.context):
                yield getattr(series, field.stat)
    elif field.source == "tags":
        yield run.tags.get(field.key)
    else:
        yield _of_run(field.key, run.row)


def _of_run(key: str, row: RunRow) -> object:
    match key:
        case "id":
            return row.run
        case "started" | "ended":
            return getattr(row, f"{key}_ns")
        case "duration":
            return duration_ns(row)
        case "host" | "user" | "script":
            return _member(row.identity, key)
        case "git.commit" | "git.branch":
            return _member(row.environment, key.replace(".", "_"))
        case _:
            return getattr(row, key)


def _member(record: RunStarted | Environment | None, name: str) -> object:
    # Stores keep the record as one JSON text.
    if record is None or ESCAPED_NUL in msgspec.json.encode(record).decode():
        return None
    return getattr(record, name)


def _selected(series: SeriesRow, context: tuple[tuple[str, str], ...] | None) -> bool:
    if not context:
        return context is None or not series.context
    return all(series.context.get(name) == value for name, value in context)


def _holds(value: Any, item: Compare) -> bool:
    wanted = item.values
    if isinstance(wanted[0], float):
        number = as_double(value)
        return number is not None and number_holds(number, item.operator, wanted)
    if isinstance(wanted[0], bool) != isinstance(value, bool) or isinstance(wanted[0], str) != isinstance(value, str):
        return False
    if item.operator == "~":
        decodable = item.field.source != "params" or ESCAPED_NUL not in json.dumps(value)
        return decodable and wanted[0] in value
    if item.operator in ("=", "!="):
        return (value in wanted) == (item.operator == "=")
    return bool(COMPARISONS[item.operator](value, wanted[0]))


def number_holds(number: float, relation: Operator, wanted: tuple[Value, ...]) -> bool:
    if relation == "=":
        return any(number == other or (math.isnan(number) and other != other) for other in wanted)
    if math.isnan(number):
        return False
    return number not in wanted if relation == "!=" else bool(COMPARISONS[relation](number, wanted[0]))


def as_double(value: object) -> float | None:
    """The number that is compared: None for what is no number, and for integers that no double reaches."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None
