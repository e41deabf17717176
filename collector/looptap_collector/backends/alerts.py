"""Alerts as rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, func, select

from looptap.events import Alert
from looptap_collector.backend import AlertCount, RunAlert
from looptap_collector.backends import tables
from looptap_collector.backends.slices import slices

_alert = tables.alert.c


def of_runs(connection: Connection, runs: Sequence[str] | None, kind: str | None, limit: int) -> list[RunAlert]:
    chosen = select(tables.alert).order_by(_alert.time_ns.desc(), _alert.run, _alert.id.desc()).limit(limit)
    if kind is not None:
        chosen = chosen.where(_alert.kind == kind)
    found: list[Row[Any]] = []
    # Of a long list each slice gives its latest; together they hold the latest of all.
    for some in [None] if runs is None else slices(sorted(set(runs))):
        found += connection.execute(chosen if some is None else chosen.where(_alert.run.in_(some)))
    found.sort(key=lambda row: (-row.time_ns, row.run, -row.id))
    return [RunAlert(row.run, alert_of(row)) for row in found[:limit]]


def counts(connection: Connection, runs: Sequence[str]) -> dict[str, AlertCount]:
    """They fire and recover in turn, so those that stand are the difference."""
    told: dict[tuple[str, str], int] = {}
    for some in slices(sorted(set(runs))):
        chosen = select(_alert.run, _alert.state, func.count()).where(_alert.run.in_(some))
        for run, state, count in connection.execute(chosen.group_by(_alert.run, _alert.state)):
            told[run, state] = count
    fired = {run: told.get((run, "fired"), 0) for run in runs}
    return {run: AlertCount(fired[run], max(0, fired[run] - told.get((run, "recovered"), 0))) for run in runs}


def alert_of(row: Row[Any]) -> Alert:
    return Alert(**{name: getattr(row, name) for name in Alert.__struct_fields__})
