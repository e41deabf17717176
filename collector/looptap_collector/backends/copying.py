"""Everything that one store has, into another one, whatever their engines: run by run.

A run is read at one moment and written in one transaction, so the other store has it whole or not at all, and a copy that
was cut off goes on where it was. What is there already with the same checksum is left alone. A run that the other store has
in an earlier state (its ledger tells) is replaced. Afterwards the run is read back from the other store and both checksums
must agree. Tokens are not copied: they open the door of one collector, not of every store that its data moves to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, insert, select

from looptap_collector.backend import Rejected
from looptap_collector.backends import deleting, tables
from looptap_collector.backends.checksums import Checksum, run_checksum
from looptap_collector.backends.data import copy_names
from looptap_collector.backends.dialects import insert_chunks, insert_missing
from looptap_collector.backends.slices import slices
from looptap_collector.backends.sql import SqlBackend
from looptap_collector.backends.streaming import RECORDS, record_rows, rows_of_series, run_ids, run_row, series_rows
from looptap_collector.backends.writing import experiment_ids
from looptap_collector.chunks import DamagedChunk

_ROWS_AT_ONCE = 1_000


class CannotCopy(Exception):
    """Why not, in one line."""


class Copied(msgspec.Struct, frozen=True):
    """What became of one run: ``was`` says what the other store had of it before (``nothing``, ``the same``, ``less``).
    ``problem`` is a line when it could not be copied; the checksums are those of both sides, read independently."""

    run: str
    name: str
    was: str
    source: Checksum | None = None
    target: Checksum | None = None
    problem: str | None = None

    @property
    def is_equal(self) -> bool:
        return self.problem is None and self.source is not None and self.source == self.target


def runs_to_copy(source: SqlBackend, target: SqlBackend, *, merge: bool) -> list[str]:
    """Raises :class:`CannotCopy` when the target has runs that the source does not know, unless they are to be merged."""
    with source.snapshot() as connection:
        wanted = run_ids(connection)
    with target.snapshot() as connection:
        others = set(run_ids(connection)) - set(wanted)
    if others and not merge:
        raise CannotCopy(
            f"{target.place} has {len(others)} runs that {source.place} does not have; with --merge they stay beside the others"
        )
    return wanted


def copy_run(source: SqlBackend, target: SqlBackend, run: str) -> Copied | None:
    """None when the run was deleted from the source meanwhile. Raises :class:`Unavailable` of either store."""
    with source.snapshot() as reading:
        row = run_row(reading, run)
        if row is None:
            return None
        copied = Copied(run, row["name"], "nothing")
        try:
            expected = run_checksum(reading, run)
            was = _standing(reading, target, run, expected)
            if was == "the same":
                return msgspec.structs.replace(copied, was=was, source=expected, target=expected)
            target.change(lambda writing: _replace(reading, writing, row))
        except DamagedChunk as damage:
            problem = f"a chunk in the source cannot be read ({damage}); looptap store check tells which"
            return msgspec.structs.replace(copied, problem=problem)
        except (CannotCopy, Rejected) as problem:
            return msgspec.structs.replace(copied, problem=str(problem))
    with target.snapshot() as connection:
        found = run_checksum(connection, run)
    return msgspec.structs.replace(copied, was=was, source=expected, target=found)


def _standing(reading: Connection, target: SqlBackend, run: str, expected: Checksum) -> str:
    """What the target has of the run."""
    with target.snapshot() as connection:
        if run_row(connection, run) is None:
            return "nothing"
        try:
            if run_checksum(connection, run) == expected:
                return "the same"
        except DamagedChunk:
            pass  # what the source has is good
        there = _positions(connection, run)
    here = _positions(reading, run)
    if any(position > here.get(journal, -1) for journal, position in there.items()):
        raise CannotCopy(f"{target.place} has records of this run that the source does not have; it was left as it is")
    return "less"


def _positions(connection: Connection, run: str) -> dict[str, int]:
    return {row["journal"]: row["next"] for row in record_rows(connection, tables.ledger, run)}


def _replace(reading: Connection, writing: Connection, row: dict[str, Any]) -> None:
    run = row["run"]
    deleting.delete_run(writing, run)
    of_others = _journals_of_others(reading, writing, run)
    if of_others:
        raise CannotCopy(f"its journal {of_others[0]!r} belongs to another run there; it was not copied")
    name = row["experiment"]
    columns = {column: value for column, value in row.items() if column != "experiment"}
    columns["experiment_id"] = experiment_ids(writing, [name])[name]
    writing.execute(insert(tables.run), columns)
    _copy_artifacts(reading, writing, run)
    copy_names(reading, writing, run)
    for table in RECORDS:
        for rows in slices(record_rows(reading, table, run), _ROWS_AT_ONCE):
            writing.execute(insert(table), rows)
    numbers = _copy_series(reading, writing, run)
    for rows in slices(_renumbered(rows_of_series(reading, tables.chunk, list(numbers)), numbers), 16):
        insert_chunks(writing, rows)
    for rows in slices(_renumbered(rows_of_series(reading, tables.outline, list(numbers)), numbers), 16):
        writing.execute(insert(tables.outline), rows)


def _journals_of_others(reading: Connection, writing: Connection, run: str) -> Sequence[str]:
    column = tables.ledger.c.journal
    found: list[str] = []
    for some in slices(_positions(reading, run)):
        found += writing.execute(select(column).where(column.in_(some))).scalars()
    return found


def _copy_artifacts(reading: Connection, writing: Connection, run: str) -> None:
    lineage = tables.lineage.c
    of_run = select(lineage.digest).where(lineage.run == run, lineage.digest.is_not(None)).distinct()
    for some in slices(reading.execute(of_run).scalars().all()):
        chosen = select(tables.artifact).where(tables.artifact.c.digest.in_(some)).order_by(tables.artifact.c.digest)
        insert_missing(writing, tables.artifact, [dict(row) for row in reading.execute(chosen).mappings()])


def _copy_series(reading: Connection, writing: Connection, run: str) -> dict[int, int]:
    """Numbers of the series in the target by those in the source."""
    rows = series_rows(reading, run)
    for some in slices(rows, _ROWS_AT_ONCE):
        writing.execute(
            insert(tables.series),
            [{name: value for name, value in row._mapping.items() if name != "id"} for row in some],
        )
    made = {(row.key, row.context): row.id for row in series_rows(writing, run)}
    return {row.id: made[row.key, row.context] for row in rows}


def _renumbered(rows: Iterator[dict[str, Any]], numbers: dict[int, int]) -> Iterator[dict[str, Any]]:
    for row in rows:
        yield {**row, "series_id": numbers[row["series_id"]]}
