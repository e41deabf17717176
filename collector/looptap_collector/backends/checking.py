"""Everything in a store read once, and whatever does not fit together told in one line each.

Nothing is changed. What is checked: the engine's own check; that every row belongs to something; that every text of JSON
decodes; that every chunk decodes, is what its row says, and all of them make what the row of their series says; that outlines
are of their chunks; that a journal's counts can be true; that the files of artifacts are there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, and_, func, select

from looptap.events import Context, Dataset, Environment, RunStarted
from looptap_collector import chunks
from looptap_collector.artifacts import ArtifactStore, DamagedArtifact
from looptap_collector.backend import RunWindow, Unavailable
from looptap_collector.backends import tables
from looptap_collector.backends.sql import SqlBackend
from looptap_collector.backends.streaming import record_rows, rows_of_series, run_ids, run_row, series_rows
from looptap_collector.backends.summaries import Columns, Summary
from looptap_collector.backends.windows import row_of, window_of
from looptap_collector.datasets import version_of

BACKUP = "restore the store from a backup"
_HARMLESS_OUTLINE = "harmless: charts are made from the chunk instead"
#: (table, its column, table that it refers to, column there)
_REFERENCES = (
    (tables.run, "experiment_id", tables.experiment, "id"),
    *((table, "run", tables.run, "run") for table in (tables.param, tables.tag, tables.series, tables.lineage)),
    *((table, "run", tables.run, "run") for table in (tables.alert, tables.serving_window)),
    *((table, "run", tables.run, "run") for table in (tables.note, tables.ledger)),
    (tables.run_dataset, "run", tables.run, "run"),
    (tables.run_dataset, "name", tables.dataset, "name"),
    (tables.run_dataset, "version", tables.dataset_version, "version"),
    (tables.dataset_version, "name", tables.dataset, "name"),
    (tables.lineage, "digest", tables.artifact, "digest"),
    (tables.chunk, "series_id", tables.series, "id"),
    (tables.outline, "series_id", tables.series, "id"),
)


class Problem(msgspec.Struct, frozen=True):
    """Where it is, what is wrong, and how to mend it."""

    where: str
    what: str
    mend: str = BACKUP


def check(
    store: SqlBackend,
    artifacts: ArtifactStore | None = None,
    *,
    content: bool = False,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Iterator[Problem]:
    """Problems as they are found. With ``artifacts`` every file must be there; with ``content`` it is read and must have its
    digest. ``progress`` is told how many runs of how many are done."""
    faults = store.faults()
    yield from (Problem(store.place, fault) for fault in faults)
    try:
        yield from _check_rows(store, progress)
        if artifacts is not None:
            yield from _check_files(store, artifacts, content)
    except Unavailable as error:
        if not faults:
            raise
        yield Problem(store.place, f"the rest cannot be read ({error})")


def _check_rows(store: SqlBackend, progress: Callable[[int, int], None]) -> Iterator[Problem]:
    with store.snapshot() as connection:
        yield from _orphans(connection)
        runs = run_ids(connection)
    for number, run in enumerate(runs):
        progress(number, len(runs))
        # One moment for each run, so that agents may write meanwhile.
        with store.snapshot() as connection:
            yield from _check_run(connection, run)
    progress(len(runs), len(runs))


def _orphans(connection: Connection) -> Iterator[Problem]:
    for table, name, other, other_name in _REFERENCES:
        column, key = table.c[name], other.c[other_name]
        lost = select(func.count()).select_from(table.outerjoin(other, column == key))
        count = connection.execute(lost.where(column.is_not(None), key.is_(None))).scalar_one()
        if count:
            yield Problem(f"table {table.name}", f"{count} rows refer to a {other.name} that is not there")
    chunk, outline = tables.chunk, tables.outline
    same = and_(chunk.c.series_id == outline.c.series_id, chunk.c.part == outline.c.part)
    lost = select(func.count()).select_from(outline.outerjoin(chunk, same)).where(chunk.c.part.is_(None))
    if count := connection.execute(lost).scalar_one():
        yield Problem(
            "table outline", f"{count} outlines are of chunks that are not there", "harmless: nobody reads them"
        )


def _check_run(connection: Connection, run: str) -> Iterator[Problem]:
    row = run_row(connection, run)
    if row is None:  # deleted meanwhile
        return
    place = f"run {run} ({row['name']})"
    yield from _json(place, "identity", row["identity"], RunStarted)
    if row["environment"] is not None:
        yield from _json(place, "environment", row["environment"], Environment)
    current: dict[str, list[int]] = {}
    for param in record_rows(connection, tables.param, run):
        current.setdefault(param["key"], []).append(param["is_current"])
        try:
            json.loads(param["value"])
        except ValueError as error:
            yield Problem(place, f"param {param['key']!r} is no JSON: {error}")
    for key, marks in current.items():
        if marks != [0] * (len(marks) - 1) + [1]:
            yield Problem(place, f"not just the newest of {len(marks)} revisions of param {key!r} is marked as current")
    for use in record_rows(connection, tables.run_dataset, run):
        yield from _check_dataset(f"{place}, dataset {use['name']} ({use['role']})", use)
    for row in record_rows(connection, tables.serving_window, run):
        yield from _check_window(f"{place}, window of {row['model']} at {row['time_ns']}", row)
    series = series_rows(connection, run)
    yield from _check_ledger(connection, place, run, sum(row._mapping["count"] for row in series))
    yield from _check_series(connection, place, series)


def _json(place: str, name: str, text: str, kind: Any) -> Iterator[Problem]:
    try:
        msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, ValueError) as error:
        yield Problem(place, f"its {name} cannot be read: {error}")


def _check_dataset(place: str, use: Mapping[str, Any]) -> Iterator[Problem]:
    try:
        told = msgspec.convert(json.loads(use["told"]), Dataset)
    except (ValueError, msgspec.ValidationError) as error:
        yield Problem(place, f"what was told of it cannot be read: {error}")
        return
    if (told.role, told.name, told.time_ns, version_of(told)) != tuple(
        use[name] for name in ("role", "name", "time_ns", "version")
    ):
        yield Problem(place, "what was told is of another one")


def _check_window(place: str, row: Mapping[str, Any]) -> Iterator[Problem]:
    try:
        told = window_of(row["told"])
    except (ValueError, msgspec.MsgspecError) as error:
        yield Problem(place, f"what was told of it cannot be read: {error}")
        return
    if row_of(RunWindow(row["run"], row["journal"], told), row["stretch"]) != dict(row):
        yield Problem(place, "what was told is of another one")


def _check_ledger(connection: Connection, place: str, run: str, points: int) -> Iterator[Problem]:
    stored = 0
    for entry in record_rows(connection, tables.ledger, run):
        stored += entry["stored"]
        of_journal = f"{place}, journal {entry['journal']}"
        yield from _json(of_journal, "count of drops", entry["dropped"], dict[str, int])
        if not 0 <= entry["stored"] <= entry["next"]:
            yield Problem(of_journal, f"{entry['stored']} records stored of {entry['next']}")
        if entry["first"] is not None and not 0 <= entry["first"] <= entry["next"]:
            yield Problem(of_journal, f"its last batch began at {entry['first']}, behind its end at {entry['next']}")
    if stored < points:
        yield Problem(place, f"the ledger knows of {stored} stored records, but there are {points} points")


def _check_series(connection: Connection, place: str, rows: Sequence[Row[Any]]) -> Iterator[Problem]:
    names = {row.id: f"{place}, series {row.key} {row.context}" for row in rows}
    for row in rows:
        yield from _json(names[row.id], "context", row.context, Context)
    outlines = groupby(rows_of_series(connection, tables.outline, list(names)), key=lambda row: row["series_id"])
    ahead = next(outlines, None)
    by_id = {row.id: row for row in rows}
    for series_id, of_series in groupby(
        rows_of_series(connection, tables.chunk, list(names)), key=lambda row: row["series_id"]
    ):
        blobs: dict[int, bytes] = {}
        while ahead is not None and ahead[0] <= series_id:
            if ahead[0] == series_id:
                blobs = {row["part"]: row["data"] for row in ahead[1]}
            ahead = next(outlines, None)
        yield from _check_chunks(names[series_id], by_id.pop(series_id), of_series, blobs)
    for row in by_id.values():
        yield Problem(names[row.id], f"it has {row._mapping['count']} points and no chunk")


def _check_chunks(
    place: str, row: Row[Any], stored: Iterator[Mapping[str, Any]], outlines: Mapping[int, bytes]
) -> Iterator[Problem]:
    whole: Summary | None = None
    tail_points, tail_parts, is_readable = 0, [], True
    for chunk in stored:
        of_chunk = f"{place}, chunk {chunk['part']} (steps {chunk['first_step']} to {chunk['last_step']})"
        if chunk["part"] >= row.next_part:
            yield Problem(of_chunk, f"the series says that its chunks end before {row.next_part}")
        if chunk["part"] >= row.tail_part:
            tail_points += chunk["count"]
            tail_parts.append(chunk["part"])
        try:
            points = Columns(*chunks.decode(chunk["data"]))
        except chunks.DamagedChunk as damage:
            is_readable = False
            yield Problem(
                of_chunk, str(damage), f"{BACKUP}; other steps can still be read with first_step and last_step"
            )
            continue
        if not len(points):
            yield Problem(of_chunk, "it is empty")
            continue
        summary = Summary.of(points)
        whole = summary if whole is None else whole.then(summary)
        yield from _differences(
            of_chunk, summary, chunk, ("count", "nan_count", "min", "max", "first_step", "last_step")
        )
        if chunk["part"] in outlines:
            yield from _check_outline(of_chunk, points, outlines[chunk["part"]])
    if tail_parts != list(range(row.tail_part, row.next_part)) or tail_points != row.tail_points:
        there = f"{tail_points} points in {len(tail_parts)} small chunks at its end"
        told = f"{row.tail_points} in chunks {row.tail_part} to {row.next_part - 1}"
        yield Problem(place, f"it has {there}, and says {told}")
    if is_readable and whole is not None:
        yield from _differences(place, whole, dict(row._mapping), Summary.__struct_fields__)


def _differences(place: str, summary: Summary, row: Mapping[str, Any], names: Sequence[str]) -> Iterator[Problem]:
    for name in names:
        found, told = getattr(summary, name), row[name]
        # Zeros of either sign are equal, and so is what is not a number.
        if found != told and not (found != found and told != told):
            yield Problem(place, f"its {name} is {found}, and it says {told}")


def _check_outline(place: str, points: Columns, blob: bytes) -> Iterator[Problem]:
    try:
        kept = Columns(*chunks.decode(blob))
    except chunks.DamagedChunk as damage:
        yield Problem(f"{place}, its outline", str(damage), _HARMLESS_OUTLINE)
        return
    whole, outlined = Summary.of(points), Summary.of(kept) if len(kept) else None
    names = ("last", "min", "max", "first_step", "last_step")
    if outlined is None or any(True for _ in _differences(place, outlined, msgspec.structs.asdict(whole), names)):
        yield Problem(f"{place}, its outline", "it is of other points", BACKUP)


def _check_files(store: SqlBackend, artifacts: ArtifactStore, content: bool) -> Iterator[Problem]:
    for digest in store.written():
        place = f"artifact {digest}"
        missing = Problem(place, "its content is not there", "put the file back from a backup of the artifacts")
        try:
            if not content:
                if not artifacts.exists(digest):
                    yield missing
                continue
            artifacts.open(digest).close()
        except KeyError:
            yield missing
        except DamagedArtifact as damage:
            yield Problem(place, str(damage), "put the file back from a backup of the artifacts")
        except OSError as error:
            yield Problem(place, f"it cannot be read: {error}", "look at the artifact store")
