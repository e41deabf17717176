"""The whole record of one run as plain data, ready for JSON.

JSON has no NaN and no infinities, so those are the strings ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``; MessagePack
(:mod:`looptap_collector.exact`) has them. Integers are exact, however large. Times are ISO 8601 in UTC, with the exact
nanoseconds beside them. Nothing that a backend knows of a run is left out, so the record can be made into
:mod:`looptap_collector.backend`'s rows again (:mod:`looptap_collector.remote` does that).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import msgspec

from looptap.events import Artifact, Environment
from looptap_collector import resources
from looptap_collector.alerts import alert_fields, count_fields
from looptap_collector.alerts import of_run as alerts_of_run
from looptap_collector.backend import Backend, ParamRow, RunRow, SeriesRow
from looptap_collector.datasets import dataset_fields, of_run
from looptap_collector.query import InJournal, added_up, duration_seconds, is_lasting, main_loss, series_labels
from looptap_collector.serving.of_run import models_of, served_by

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def run_record(backend: Backend, run: RunRow, in_journal: InJournal | None = None) -> dict[str, Any]:
    """Everything that the store has about a run, except the points themselves (``history`` and ``export``
    have those) and windows of serving (``looptap serving``), of which it has sums.

    Keys: ``run``, ``params``, ``tags``, ``metrics``, ``artifacts``, ``datasets``, ``alerts``, ``serves``, ``environment``,
    ``notes``, ``delivery``.
    """
    series = backend.series([run.run])
    entries = backend.delivery(run.run)
    account = added_up(entries, in_journal)
    return {
        "run": run_fields(run),
        "params": _params(backend.params(run.run, revisions=True)),
        "tags": backend.tags(run.run),
        "metrics": {label: series_fields(row) for label, row in zip(series_labels(series), series, strict=True)},
        "artifacts": [artifact_fields(artifact) for artifact in backend.artifacts(run.run)],
        "datasets": [dataset_fields(dataset) for dataset in of_run(backend, run.run)],
        "alerts": [alert_fields(alert) | {"time": iso(alert.time_ns)} for alert in alerts_of_run(backend, run.run)],
        "serves": [msgspec.structs.asdict(one) for one in served_by(backend, run.run)],
        "environment": environment_fields(run),
        "notes": _notes(run),
        "delivery": {
            "emitted": account.emitted,
            "stored": account.stored,
            "in_journal": account.in_journal,
            "dropped": account.dropped,
            "points_stored": sum(row.count for row in series),
            "journals": [
                {
                    "journal": entry.journal,
                    "next": entry.next,
                    "stored": entry.stored,
                    "dropped": dict(entry.dropped),
                    "rank": entry.rank,
                    "status": entry.status,
                    "ended_ns": entry.ended_ns,
                    "error": entry.error,
                }
                for entry in entries
            ],
        },
    }


def run_list(backend: Backend, *, experiment: str | None = None, limit: int | None = None) -> list[dict[str, Any]]:
    """The runs of a store, newest first, as :func:`listed` has them."""
    return listed(backend, backend.runs(experiment=experiment, limit=limit))


def listed(backend: Backend, rows: Sequence[RunRow]) -> list[dict[str, Any]]:
    """A list of runs: of each, what :func:`run_record` says under ``run``, the number of
    ``points``, as ``loss`` the last value of the series that a list shows (``key`` and ``last``, or
    None), as ``alerts`` how many were ``fired`` and how many are ``standing``, and as ``serves`` the names of the models that a
    serving process was asked for."""
    by_run: dict[str, list[SeriesRow]] = {row.run: [] for row in rows}
    for series in backend.series(list(by_run)):
        by_run[series.run].append(series)
    alerts = backend.alert_counts(list(by_run))
    serves = models_of(backend, rows)
    lines = []
    for row in rows:
        own = by_run[row.run]
        loss = main_loss(own)
        lines.append(
            run_fields(row)
            | {
                "points": sum(series.count for series in own),
                "loss": {"key": loss.key, "last": loss.last} if loss else None,
                "alerts": count_fields(alerts[row.run]),
                "serves": serves.get(row.run, []),
            }
        )
    return lines


def run_table(backend: Backend, rows: Sequence[RunRow], *, details: bool = False) -> list[dict[str, Any]]:
    """Several runs with what a table shows of each: what :func:`run_record` says under ``run``, and ``params`` (newest values),
    ``metrics`` (summaries), ``tags`` and the numbers of ``alerts``; with ``details`` also ``environment`` and ``notes``. Five
    questions to the store, however many runs there are."""
    ids = [row.run for row in rows]
    params, tags = backend.current_params(ids), backend.current_tags(ids)
    alerts = backend.alert_counts(ids)
    series: dict[str, list[SeriesRow]] = {run: [] for run in ids}
    for item in backend.series(ids):
        series[item.run].append(item)
    return [
        run_fields(row)
        | {
            "params": params[row.run],
            "metrics": {
                label: series_fields(item)
                for label, item in zip(series_labels(series[row.run]), series[row.run], strict=True)
            },
            "tags": tags[row.run],
            "alerts": count_fields(alerts[row.run]),
        }
        | ({"environment": environment_fields(row), "notes": _notes(row)} if details else {})
        for row in rows
    ]


def run_fields(run: RunRow) -> dict[str, Any]:
    identity = run.identity
    return {
        "id": run.run,
        "name": run.name,
        "experiment": run.experiment,
        "kind": run.kind,
        "status": run.status,
        "started": iso(run.started_ns),
        "started_ns": run.started_ns,
        "ended": iso(run.ended_ns),
        "ended_ns": run.ended_ns,
        "heartbeat": iso(run.heartbeat_ns),
        "heartbeat_ns": run.heartbeat_ns,
        "duration_seconds": duration_seconds(run),
        "error": run.error,
        "script": identity.script,
        "command": list(identity.command),
        "working_directory": identity.working_directory,
        "host": identity.host,
        "user": identity.user,
        "pid": identity.pid,
        "python": identity.python,
        "rank": identity.rank,
        "world_size": identity.world_size,
    }


def series_fields(row: SeriesRow) -> dict[str, Any]:
    """``unit`` and ``lasting`` (see :func:`looptap_collector.query.is_lasting`) are there only where there is one, or it is so."""
    about: dict[str, Any] = {"unit": found} if (found := resources.unit(row.key)) else {}
    if is_lasting(row.key):
        about["lasting"] = True
    return {
        "key": row.key,
        "context": dict(row.context),
        "count": row.count,
        "nan_count": row.nan_count,
        "last": row.last,
        "min": row.min,
        "max": row.max,
        "first_step": row.first_step,
        "last_step": row.last_step,
        "last_time": iso(row.last_time_ns),
        "last_time_ns": row.last_time_ns,
    } | about


def artifact_fields(artifact: Artifact) -> dict[str, Any]:
    return {
        "name": artifact.name,
        "role": artifact.role,
        "kind": artifact.kind,
        "size_bytes": artifact.size_bytes,
        "digest": artifact.digest,
        "missing": artifact.missing,
        "path": artifact.path,
        "media_type": artifact.media_type,
        "step": artifact.step,
        "time": iso(artifact.time_ns),
        "time_ns": artifact.time_ns,
        "description": artifact.description,
        "weights": artifact.weights,
    }


def environment_fields(run: RunRow) -> dict[str, Any]:
    """``git``, ``packages`` and ``variables`` are empty, and the time is None, until the agent has gathered them, a moment
    after the start."""
    found = run.environment or Environment(time_ns=run.started_ns)
    time_ns = run.environment.time_ns if run.environment else None
    return {
        "time": iso(time_ns),
        "time_ns": time_ns,
        "python": run.identity.python,
        "platform": found.platform,
        "git": {
            "commit": found.git_commit,
            "branch": found.git_branch,
            "dirty": found.git_dirty,
            "remote": found.git_remote,
        },
        "packages": dict(found.packages),
        "variables": dict(found.variables),
    }


def _params(rows: Sequence[ParamRow]) -> dict[str, dict[str, Any]]:
    by_key: dict[str, list[ParamRow]] = {}
    for row in rows:
        by_key.setdefault(row.key, []).append(row)
    found: dict[str, dict[str, Any]] = {}
    for key, revisions in sorted(by_key.items()):
        revisions.sort(key=lambda row: row.revision)
        found[key] = _revision(revisions[-1])
        if len(revisions) > 1:
            found[key]["revisions"] = [_revision(row) for row in revisions]
    return found


def _revision(row: ParamRow) -> dict[str, Any]:
    return {"value": row.value, "source": row.source, "time": iso(row.time_ns), "time_ns": row.time_ns}


def _notes(run: RunRow) -> list[dict[str, Any]]:
    return [
        {"topic": note.topic, "message": note.message, "time": iso(note.time_ns), "time_ns": note.time_ns}
        for note in run.notes
    ]


def iso(time_ns: int | None) -> str | None:
    """ISO 8601 in UTC, cut to microseconds; None stays None, and so does a time outside of the years 1 to
    9999."""
    if time_ns is None:
        return None
    try:
        moment = _EPOCH + timedelta(microseconds=time_ns // 1000)
    except OverflowError:
        return None
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Valid JSON in ASCII, whatever was stored. What JSON cannot say is told as text (see the module)."""
    separators = None if indent else (",", ":")
    return json.dumps(sayable(value), allow_nan=False, indent=indent, separators=separators)


def sayable(value: Any) -> Any:
    """The same data with each float that is not finite as a string."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(key): sayable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [sayable(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)
