"""One number for all that a store knows of a run, the same in every store on every engine.

It covers what was told, to the bit: the run, its params in all revisions, tags, artifacts, notes, ledger, and of each series
the summary and the points in order of arrival. How the points are cut into chunks, and the numbers that a store gives to
its rows, do not matter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

import msgspec
from sqlalchemy import Connection

from looptap_collector import chunks
from looptap_collector.backends import tables
from looptap_collector.backends.streaming import RECORDS, record_rows, rows_of_series, run_row, series_rows
from looptap_collector.backends.summaries import Summary
from looptap_collector.doubles import exact

_SERIES = ("key", "context", *Summary.__struct_fields__)
#: What a store works out for itself.
_DERIVED = {"number", "stretch"}


class Checksum(msgspec.Struct, frozen=True):
    """SHA-256 in hex, and how many points it covers."""

    sha256: str
    points: int


def run_checksum(connection: Connection, run: str) -> Checksum:
    """In a transaction of the caller that sees one moment. Raises :class:`looptap_collector.chunks.DamagedChunk`, and
    KeyError for an unknown run."""
    row = run_row(connection, run)
    if row is None:
        raise KeyError(f"there is no run {run!r}")
    parts = [_digest("run", row)]
    for table in RECORDS:
        # Where rows have no name of their own, their order is theirs.
        is_list = "id" in table.c
        for number, record in enumerate(record_rows(connection, table, run)):
            parts.append(_digest(table.name, {**record, "number in order": number if is_list else None}))
    count = 0
    rows = {row.id: row for row in series_rows(connection, run)}
    for series_id, points, digests in _points(connection, list(rows)):
        row = dict(rows.pop(series_id)._mapping)
        parts.append(_digest("series", {**{name: row[name] for name in _SERIES}, "points": points, **digests}))
        count += points
    # A series without a chunk is a fault, but one that a copy has as well.
    parts += [_digest("series", {name: getattr(row, name) for name in _SERIES}) for row in rows.values()]
    whole = hashlib.sha256()
    for part in sorted(parts):
        whole.update(part)
    return Checksum(whole.hexdigest(), count)


def _points(connection: Connection, series_ids: list[int]) -> Iterator[tuple[int, int, dict[str, str]]]:
    rows = rows_of_series(connection, tables.chunk, series_ids)
    for series_id, of_series in groupby(rows, key=lambda row: int(row["series_id"])):
        columns = {name: hashlib.sha256() for name in ("steps", "times_ns", "values")}
        count = 0
        for row in of_series:
            arrays = chunks.decode(row["data"])
            count += len(arrays[0])
            for column, array in zip(columns.values(), arrays, strict=True):
                column.update(array.data)
        yield series_id, count, {name: column.hexdigest() for name, column in columns.items()}


def _digest(kind: str, row: Mapping[str, Any]) -> bytes:
    told = {
        # SQLAlchemy's names are more than text.
        str(name): {"double": exact(value)} if isinstance(value, float) else value
        for name, value in row.items()
        if name not in _DERIVED
    }
    return hashlib.sha256(msgspec.msgpack.encode((str(kind), told), order="sorted")).digest()
