"""Datasets as rows: their names, their versions, and which run used which."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, select

from looptap.events import Dataset
from looptap_collector.backend import DatasetUse
from looptap_collector.backends import tables
from looptap_collector.backends.dialects import insert_missing, upsert
from looptap_collector.backends.slices import slices
from looptap_collector.datasets import version_of

_use, _version, _name = tables.run_dataset.c, tables.dataset_version.c, tables.dataset.c


def write_datasets(connection: Connection, datasets: Sequence[tuple[str, Dataset]]) -> None:
    """In order; the last one of a run, role and name counts."""
    last = {(run, dataset.role, dataset.name): dataset for run, dataset in datasets}
    insert_missing(connection, tables.dataset, [{"name": name} for name in sorted({name for *_, name in last})])
    versions = {}
    for dataset in last.values():
        if (version := version_of(dataset)) is not None:
            versions[version] = {
                name: getattr(dataset, name) for name in ("name", "fingerprint", "algorithm", "covers")
            }
    rows = [{"version": version, **versions[version]} for version in sorted(versions)]
    insert_missing(connection, tables.dataset_version, rows)
    uses = [
        {
            "run": run,
            "role": role,
            "name": name,
            "version": version_of(dataset),
            "time_ns": dataset.time_ns,
            # Not msgspec: its JSON has no NaN and no integer beyond 64 bits.
            "told": json.dumps(msgspec.structs.asdict(dataset)),
        }
        for (run, role, name), dataset in last.items()
    ]
    upsert(connection, tables.run_dataset, uses)


def uses(
    connection: Connection,
    runs: Sequence[str] | None,
    name: str | None,
    role: str | None,
    fingerprints: Sequence[str] | None,
    limit: int,
) -> list[DatasetUse]:
    chosen = select(_use.run, _use.told, _use.time_ns, _use.role, _use.name)
    chosen = chosen.order_by(_use.time_ns.desc(), _use.run, _use.role, _use.name).limit(limit)
    if fingerprints is not None:
        chosen = chosen.join(tables.dataset_version, _version.version == _use.version)
    for column, value in ((_use.name, name), (_use.role, role)):
        if value is not None:
            chosen = chosen.where(column == value)
    found: list[Row[Any]] = []
    # Of long lists each slice gives its latest; together they hold the latest of all.
    for some_runs in [None] if runs is None else slices(sorted(set(runs))):
        for some_prints in [None] if fingerprints is None else slices(sorted(set(fingerprints))):
            narrowed = chosen if some_runs is None else chosen.where(_use.run.in_(some_runs))
            if some_prints is not None:
                narrowed = narrowed.where(_version.fingerprint.in_(some_prints))
            found.extend(connection.execute(narrowed))
    found.sort(key=lambda row: (-row.time_ns, row.run, row.role, row.name))
    return [DatasetUse(row.run, Dataset(**json.loads(row.told))) for row in found[:limit]]


def delete_unused(connection: Connection, run: str) -> None:
    """What the run used goes; names and versions, when no other run uses them."""
    of_run = connection.execute(select(_use.name, _use.version).where(_use.run == run)).all()
    connection.execute(delete(tables.run_dataset).where(_use.run == run))
    for versions in slices(sorted({row.version for row in of_run} - {None})):
        used = set(connection.execute(select(_use.version).where(_use.version.in_(versions))).scalars())
        unused = [version for version in versions if version not in used]
        connection.execute(delete(tables.dataset_version).where(_version.version.in_(unused)))
    for names in slices(sorted({row.name for row in of_run})):
        used = set(connection.execute(select(_use.name).where(_use.name.in_(names))).scalars())
        used |= set(connection.execute(select(_version.name).where(_version.name.in_(names))).scalars())
        unused = [name for name in names if name not in used]
        connection.execute(delete(tables.dataset).where(_name.name.in_(unused)))


def copy_names(reading: Connection, writing: Connection, run: str) -> None:
    """What rows of ``run_dataset`` refer to."""
    for table, own, of_use in (
        (tables.dataset, _name.name, _use.name),
        (tables.dataset_version, _version.version, _use.version),
    ):
        chosen = select(table).where(own.in_(select(of_use).where(_use.run == run))).order_by(own)
        for some in slices(reading.execute(chosen).mappings()):
            insert_missing(writing, table, [dict(row) for row in some])
