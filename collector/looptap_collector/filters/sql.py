"""A filter as a condition on the tables of :mod:`looptap_collector.backends.tables`, the same on every engine.

Every value and every name that the user wrote is a bound parameter. Every condition is true or false, never null, so that
``not`` means what it says.
"""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Double,
    Table,
    and_,
    case,
    cast,
    false,
    func,
    literal,
    not_,
    or_,
    select,
    type_coerce,
)

from looptap_collector.backends import tables
from looptap_collector.filters import tree
from looptap_collector.filters.engines import contains, exact_text, json_text
from looptap_collector.filters.evaluation import COMPARISONS, SANE_NS, as_double, number_holds
from looptap_collector.filters.tree import Compare, Exists, Field, Not, Operator, Tree, Value

_Condition = ColumnElement[bool]
_INF = float("inf")


def condition(item: Tree) -> _Condition:
    """On the rows of ``run``."""
    if isinstance(item, tree.All):
        return and_(*(condition(part) for part in item.items))
    if isinstance(item, tree.Any):
        return or_(*(condition(part) for part in item.items))
    if isinstance(item, Not):
        return not_(condition(item.item))
    if isinstance(item, Exists):
        return _exists(item.field)
    return _compare(item)


def run_column(key: str) -> ColumnElement[Any]:
    """The value of a field of the run: text, or whole nanoseconds. Null where the run has none."""
    run = tables.run.c
    match key:
        case "id":
            return run.run
        case "experiment":
            # Not a join: most questions do not need the name, and can then do without the wide rows of the runs.
            named = select(tables.experiment.c.name).where(tables.experiment.c.id == run.experiment_id)
            return named.correlate(tables.run).scalar_subquery()
        case "started":
            return run.started_ns
        case "ended":
            return run.ended_ns
        case "duration":
            return _duration()
        case "host" | "user" | "script":
            return json_text(run.identity, key)
        case "git.commit" | "git.branch":
            return json_text(run.environment, key.replace(".", "_"))
        case _:
            return run[key]


def _duration() -> ColumnElement[Any]:
    run = tables.run.c
    alive = case((run.heartbeat_ns > run.started_ns, run.heartbeat_ns), else_=run.started_ns)
    last = func.coalesce(run.ended_ns, alive)
    sane = and_(run.started_ns.between(1 - SANE_NS, SANE_NS - 1), last.between(1 - SANE_NS, SANE_NS - 1))
    duration = case((and_(sane, last > run.started_ns), last - run.started_ns), (sane, 0))
    # Said once more, or engines with typed parameters take the numbers that it is compared with for 32 bits wide.
    return type_coerce(duration, BigInteger)


def series_selected(field: Field) -> _Condition:
    """The series that a field of metrics names, of all runs."""
    series = tables.series.c
    selected = [series.key == field.key]
    if field.context == ():
        selected.append(series.context == "{}")
    for item in field.context or ():
        # A quote inside of a JSON text has a backslash before it, so these can only be found where an item begins and ends.
        text = msgspec.json.encode(dict([item])).decode()[1:-1]
        selected.append(
            or_(contains(series.context, literal("{" + text)), contains(series.context, literal("," + text)))
        )
    return and_(*selected)


def _exists(field: Field) -> _Condition:
    if field.source == "run":
        return run_column(field.key).is_not(None)
    if field.source == "metrics":
        return _has(tables.series, series_selected(field), tables.series.c[field.stat].is_not(None))
    table = tables.param if field.source == "params" else tables.tag
    return _has(table, table.c.key == field.key)


def _compare(item: Compare) -> _Condition:
    field = item.field
    if field == Field("run", "experiment"):
        experiment = tables.experiment.c
        return tables.run.c.experiment_id.in_(select(experiment.id).where(_text_or_time(experiment.name, item)))
    if field.source == "run":
        column = run_column(field.key)
        compared = _text_or_time(column, item)
        # Columns that cannot be null stay bare: their indexes can be used.
        return func.coalesce(compared, false(), type_=Boolean) if getattr(column, "nullable", True) else compared
    if field.source == "tags":
        tag = tables.tag.c
        return _has(tables.tag, tag.key == field.key, _text_or_time(tag.value, item))
    if field.source == "params":
        param = tables.param.c
        return _has(tables.param, param.key == field.key, param.is_current == 1, _param(item))
    if field.stat in ("last", "min", "max"):
        return _has(
            tables.series, series_selected(field), _exact(tables.series.c[field.stat], item.operator, item.values)
        )
    whole = cast(tables.series.c[field.stat], Double)
    return _has(tables.series, series_selected(field), _finite(whole, item.operator, item.values))


def _has(table: Table, *conditions: _Condition) -> _Condition:
    return tables.run.c.run.in_(select(table.c.run).where(*conditions))


def _text_or_time(column: ColumnElement[Any], item: Compare) -> _Condition:
    if item.operator == "~":
        return contains(column, literal(item.values[0]))
    if isinstance(item.values[0], str) and column is not tables.run.c.run:
        column = exact_text(column)
    return _plain(column, item.operator, item.values)


def _plain(column: ColumnElement[Any], operator: Operator, values: tuple[Any, ...]) -> _Condition:
    if operator == "=":
        return column.in_(values)
    if operator == "!=":
        return column.not_in(values)
    compared: _Condition = COMPARISONS[operator](column, values[0])
    return compared


def _param(item: Compare) -> _Condition:
    """A value is kept as JSON text, and as a number where it is a finite one."""
    param = tables.param.c
    first = item.values[0]
    if isinstance(first, str):
        is_text = func.substr(param.value, 1, 1) == '"'
        if item.operator == "~":
            return contains(json_text(param.value), literal(first))
        texts = tuple(json.dumps(value) for value in item.values)
        return and_(is_text, _plain(exact_text(param.value), item.operator, texts))
    if isinstance(first, bool):
        texts = tuple(json.dumps(value) for value in item.values)
        return and_(param.value.in_(("true", "false")), _plain(param.value, item.operator, texts))
    # NaN and the infinities have no number; Python's JSON writes them by name.
    named = [json.dumps(odd) for odd in (math.nan, _INF, -_INF) if number_holds(odd, item.operator, item.values)]
    return or_(_finite(param.number, item.operator, item.values), param.value.in_(named) if named else false())


def _finite(column: ColumnElement[Any], operator: Operator, values: tuple[Value, ...]) -> _Condition:
    """A column without NaN and infinities: those are never sent to an engine, some of which cannot take them."""
    finite = tuple(number for number in map(as_double, values) if number is not None and math.isfinite(number))
    known = column.is_not(None)
    if operator in ("=", "!="):
        if finite:
            return _plain(column, operator, finite)
        return known if operator == "!=" else false()
    if finite:
        return _plain(column, operator, finite)
    return known if number_holds(0.0, operator, values) else false()


def _exact(column: ColumnElement[Any], operator: Operator, values: tuple[Any, ...]) -> _Condition:
    """A column of :class:`ExactDouble`: integers in the order -Inf, …, -0.0, 0.0, …, Inf, NaN."""
    number = column <= _INF
    if operator == "=":
        return or_(*(_equals(column, value) for value in values))
    if operator == "!=":
        return and_(number, *(not_(_equals(column, value)) for value in values))
    value = values[0]
    if value == 0:
        value = -0.0 if operator in ("<", ">=") else 0.0
    return and_(number, _plain(column, operator, (value,)))


def _equals(column: ColumnElement[Any], value: float) -> _Condition:
    if math.isnan(value):
        return column > _INF
    return column.between(-0.0, 0.0) if value == 0 else column == value
