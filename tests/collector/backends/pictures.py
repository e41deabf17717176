"""Everything that a backend tells of its runs, as plain data that JSON holds exactly. Two stores with equal pictures hold the
same."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec
import numpy as np

from looptap_collector.backend import Backend, WindowQuery

RUN = ("run", "name", "experiment", "kind", "status", "started_ns", "ended_ns", "heartbeat_ns", "error")
SERIES = ("key", "context", "count", "nan_count", "first_step", "last_step", "last_time_ns")


def picture(backend: Backend) -> dict[str, Any]:
    return {run.run: _run(backend, run) for run in backend.runs()}


def _run(backend: Backend, run: Any) -> dict[str, Any]:
    return {
        **{name: getattr(run, name) for name in RUN},
        "identity": msgspec.to_builtins(run.identity),
        "environment": msgspec.to_builtins(run.environment),
        "notes": [msgspec.structs.astuple(note) for note in run.notes],
        # As text, so that 1 and 1.0 and true are different.
        "params": [
            (row.key, json.dumps(row.value), row.source, row.revision, row.time_ns)
            for row in backend.params(run.run, revisions=True)
        ],
        "tags": backend.tags(run.run),
        "series": [
            {
                **{name: getattr(row, name) for name in SERIES},
                **{name: _bits(getattr(row, name)) for name in ("last", "min", "max")},
                "points": _digest(backend.history(run.run, row.key, row.context)),
            }
            for row in backend.series([run.run])
        ],
        "artifacts": [msgspec.to_builtins(artifact) for artifact in backend.artifacts(run.run)],
        # Pictures that older versions left behind know of none.
        **({"datasets": datasets} if (datasets := _datasets(backend, run)) else {}),
        **({"alerts": alerts} if (alerts := _alerts(backend, run)) else {}),
        **({"windows": windows} if (windows := _windows(backend, run)) else {}),
        "delivery": [msgspec.to_builtins(entry) for entry in backend.delivery(run.run)],
    }


def _datasets(backend: Backend, run: Any) -> list[Any]:
    # As text, so that 1 and 1.0 and true are different.
    return [json.dumps(msgspec.structs.asdict(use.dataset)) for use in backend.datasets(runs=[run.run])]


def _alerts(backend: Backend, run: Any) -> list[Any]:
    return [msgspec.msgpack.encode(one.alert).hex() for one in backend.alerts(runs=[run.run])]


def _windows(backend: Backend, run: Any) -> list[Any]:
    every = [
        *backend.windows(WindowQuery(runs=(run.run,))),
        *backend.windows(WindowQuery(runs=(run.run,), reference=True)),
    ]
    return [(one.journal, msgspec.msgpack.encode(one.window).hex()) for one in every]


def _bits(value: float | None) -> str | None:
    return None if value is None else np.float64(value).tobytes().hex()


def _digest(history: Any) -> str:
    columns = (history.steps, history.times_ns, history.values)
    return hashlib.sha256(b"".join(column.tobytes() for column in columns)).hexdigest()
