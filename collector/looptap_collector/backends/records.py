"""How the records of batches that are not points become rows: params, tags, artifacts, … of several runs at once."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, bindparam, delete, insert, select, update

from looptap.events import Alert, Artifact, Batch, Dataset, Note, Param, Tag, Window
from looptap_collector.backend import RunWindow
from looptap_collector.backends import tables
from looptap_collector.backends.data import write_datasets
from looptap_collector.backends.dialects import insert_missing, upsert
from looptap_collector.backends.slices import slices
from looptap_collector.backends.windows import write_windows
from looptap_collector.edges import changes


def write_records(connection: Connection, batches: Sequence[Batch]) -> None:
    """In order of the batches and of the records in each."""
    params: list[tuple[str, Param]] = []
    tags: dict[tuple[str, str], Tag] = {}
    artifacts: list[tuple[str, Artifact]] = []
    datasets: list[tuple[str, Dataset]] = []
    alerts: list[dict[str, Any]] = []
    windows: list[RunWindow] = []
    notes: list[tuple[str, Note]] = []
    for batch in batches:
        for record in batch.records:
            if isinstance(record, Param):
                params.append((batch.run, record))
            elif isinstance(record, Tag):
                tags[batch.run, record.key] = record
            elif isinstance(record, Artifact):
                artifacts.append((batch.run, record))
            elif isinstance(record, Dataset):
                datasets.append((batch.run, record))
            elif isinstance(record, Alert):
                alerts.append({"run": batch.run, **msgspec.structs.asdict(record)})
            elif isinstance(record, Window):
                windows.append(RunWindow(batch.run, batch.journal, record))
            elif isinstance(record, Note):
                notes.append((batch.run, record))
    if params:
        _set_params(connection, params)
    rows = [{"run": run, "key": key, "value": tag.value, "time_ns": tag.time_ns} for (run, key), tag in tags.items()]
    upsert(connection, tables.tag, rows)
    if artifacts:
        _add_artifacts(connection, artifacts)
    if datasets:
        write_datasets(connection, datasets)
    if alerts:
        connection.execute(_INSERT_ALERT, alerts)
    if windows:
        write_windows(connection, windows)
    if notes:
        _add_notes(connection, notes)


_param = tables.param.c
_CURRENT = select(_param.run, _param.key, _param.revision, _param.value).where(
    _param.run.in_(tables.names("runs")), _param.key.in_(tables.names("keys")), _param.is_current == 1
)
_OUTDATE = (
    update(tables.param)
    .where(
        _param.run == bindparam("of_run"),
        _param.key == bindparam("of_key"),
        _param.revision == bindparam("of_revision"),
    )
    .values(is_current=0)
)
_INSERT_PARAM = insert(tables.param)
_INSERT_ALERT = insert(tables.alert)
_INSERT_NOTE = insert(tables.note)
_INSERT_LINEAGE = insert(tables.lineage)
_edge = tables.lineage.c
_KNOWN_NOTES = select(tables.note.c.run, tables.note.c.topic, tables.note.c.message).where(
    tables.note.c.run.in_(tables.names("runs"))
)


def _set_params(connection: Connection, params: Sequence[tuple[str, Param]]) -> None:
    """A value equal to the one before makes no new revision."""
    newest: dict[tuple[str, str], dict[str, Any]] = {}
    runs = sorted({run for run, _ in params})
    for some_keys in slices(sorted({param.key for _, param in params})):
        for some_runs in slices(runs):
            for run, key, revision, value in connection.execute(_CURRENT, {"runs": some_runs, "keys": some_keys}):
                newest[run, key] = {"revision": revision, "value": value, "is_stored": True}
    rows, outdated = [], []
    for run, param in params:
        # Not msgspec: its JSON has no NaN and no integer beyond 64 bits. Compared as text, 1 and 1.0 and true are
        # different.
        value = json.dumps(param.value)
        before = newest.get((run, param.key))
        if before is not None and before["value"] == value:
            continue
        if before is not None and before.get("is_stored"):
            outdated.append({"of_run": run, "of_key": param.key, "of_revision": before["revision"]})
        elif before is not None:
            before["is_current"] = 0
        row = {
            "run": run,
            "key": param.key,
            "revision": 0 if before is None else before["revision"] + 1,
            "value": value,
            "source": param.source,
            "time_ns": param.time_ns,
            "number": number_of(param.value),
            "is_current": 1,
        }
        newest[run, param.key] = row
        rows.append(row)
    if outdated:
        connection.execute(_OUTDATE, outdated)
    if rows:
        connection.execute(_INSERT_PARAM, rows)


def number_of(value: object) -> float | None:
    """The value where it is a finite number; None for anything else, true and false included."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _add_artifacts(connection: Connection, artifacts: Sequence[tuple[str, Artifact]]) -> None:
    contents = {artifact.digest: artifact for _, artifact in reversed(artifacts) if artifact.digest is not None}
    rows = [
        {"digest": digest, "size_bytes": contents[digest].size_bytes, "media_type": contents[digest].media_type}
        for digest in sorted(contents)
    ]
    insert_missing(connection, tables.artifact, rows)
    told: dict[str, list[Artifact]] = {}
    for run, artifact in artifacts:
        told.setdefault(run, []).append(artifact)
    known = _known_edges(connection, told)
    added: list[dict[str, Any]] = []
    gone: list[int] = []
    for run, some in told.items():
        new, outdated = changes(known[run].items(), some)
        added += [{"run": run, **msgspec.structs.asdict(artifact)} for artifact in new]
        gone += outdated
    if added:
        connection.execute(_INSERT_LINEAGE, added)
    for some_ids in slices(gone):
        connection.execute(delete(tables.lineage).where(_edge.id.in_(some_ids)))


def _known_edges(connection: Connection, told: Mapping[str, Sequence[Artifact]]) -> dict[str, dict[int, Artifact]]:
    """By run and id, those that :func:`looptap_collector.edges.changes` wants to know of."""
    every = [artifact for some in told.values() for artifact in some]
    digests = sorted({artifact.digest for artifact in every if artifact.digest is not None})
    steps = sorted({artifact.step for artifact in every if artifact.step is not None})
    conditions = [_edge.digest.in_(some) for some in slices(digests)] + [_edge.step.in_(some) for some in slices(steps)]
    if any(artifact.digest is None for artifact in every):
        conditions.append(_edge.digest.is_(None))
    found: dict[str, dict[int, Artifact]] = {run: {} for run in told}
    for runs in slices(sorted(told)):
        for condition in conditions:
            for row in connection.execute(select(tables.lineage).where(_edge.run.in_(runs), condition)):
                found[row.run][row.id] = artifact_of(row)
    return found


def artifact_of(row: Row[Any]) -> Artifact:
    return Artifact(**{name: getattr(row, name) for name in Artifact.__struct_fields__})


def _add_notes(connection: Connection, notes: Sequence[tuple[str, Note]]) -> None:
    """What several processes of a job note is one note."""
    known = set()
    for some in slices(sorted({run for run, _ in notes})):
        known |= {(run, topic, message) for run, topic, message in connection.execute(_KNOWN_NOTES, {"runs": some})}
    new = []
    for run, note in notes:
        if (run, note.topic, note.message) not in known:
            known.add((run, note.topic, note.message))
            new.append({"run": run, **msgspec.structs.asdict(note)})
    if new:
        connection.execute(_INSERT_NOTE, new)
