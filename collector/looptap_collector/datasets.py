"""Which data runs were fed with, and in what that of two runs differs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import msgspec

from looptap.events import Dataset
from looptap_collector.backend import Backend, DatasetUse

SAME, DIFFERENT, UNKNOWN = "same", "different", "unknown"
#: So many are looked at in one question.
MOST_USES = 10_000
#: What is told of each, beside the run.
COLUMNS = (*Dataset.__struct_fields__, "version")
ONLY_FIRST, ONLY_SECOND = "only in the first", "only in the second"
#: When something was told, and how the fingerprint came to be, is no difference of the data.
_NO_DIFFERENCE = {"time_ns", "fingerprint", "algorithm", "covers", "missing"}


def version_of(dataset: Dataset) -> str | None:
    """The same for the same fingerprint of the same name in every store; None without a fingerprint."""
    if dataset.fingerprint is None:
        return None
    told = [dataset.name, dataset.algorithm, dataset.covers, dataset.fingerprint]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


class Compared(msgspec.Struct, frozen=True):
    """One data set of two runs. ``outcome``: by the fingerprints ``same`` or ``different``, ``unknown`` where one is missing or
    they do not cover the same; or in which of the runs alone it is. ``fields`` differ beside the fingerprint."""

    role: str
    name: str
    outcome: str
    first: Dataset | None
    second: Dataset | None
    fields: tuple[str, ...] = ()


def compared(first: Sequence[Dataset], second: Sequence[Dataset]) -> list[Compared]:
    """Data sets of the same role and name belong together; of those that are left, those of the same role and fingerprint."""
    others = {(item.role, item.name): item for item in second}
    pairs: list[tuple[Dataset | None, Dataset | None]] = []
    alone: list[Dataset] = []
    for item in first:
        other = others.pop((item.role, item.name), None)
        if other is None:
            alone.append(item)
        else:
            pairs.append((item, other))
    for item in alone:
        twin = next(
            (other for other in others.values() if other.role == item.role and _outcome(item, other) == SAME), None
        )
        if twin is not None:
            del others[twin.role, twin.name]
        pairs.append((item, twin))
    pairs += [(None, other) for other in others.values()]
    return sorted((_compared(*pair) for pair in pairs), key=lambda one: (one.role, one.name))


def _compared(first: Dataset | None, second: Dataset | None) -> Compared:
    one = first or second
    assert one is not None
    if first is None or second is None:
        return Compared(one.role, one.name, ONLY_FIRST if second is None else ONLY_SECOND, first, second)
    fields = tuple(
        name
        for name in Dataset.__struct_fields__
        # As text, 1 and 1.0 and true are different, and what is not a number is itself.
        if name not in _NO_DIFFERENCE and json.dumps(getattr(first, name)) != json.dumps(getattr(second, name))
    )
    return Compared(one.role, one.name, _outcome(first, second), first, second, fields)


def _outcome(first: Dataset, second: Dataset) -> str:
    if first.fingerprint is None or second.fingerprint is None:
        return UNKNOWN
    if (first.algorithm, first.covers) != (second.algorithm, second.covers):
        return UNKNOWN
    return SAME if first.fingerprint == second.fingerprint else DIFFERENT


def of_run(backend: Backend, run: str) -> list[Dataset]:
    """Sorted by role and name."""
    return sorted(
        (use.dataset for use in backend.datasets(runs=[run], limit=MOST_USES)), key=lambda one: (one.role, one.name)
    )


def users_of(backend: Backend, fingerprint: str, limit: int = 1_000) -> Sequence[DatasetUse]:
    """Uses of the data with this fingerprint, under whatever name, the latest first."""
    return backend.datasets(fingerprints=[fingerprint], limit=limit)


def dataset_fields(dataset: Dataset) -> dict[str, Any]:
    return {**msgspec.structs.asdict(dataset), "version": version_of(dataset)}


def compared_fields(item: Compared) -> dict[str, Any]:
    return {
        "role": item.role,
        "name": item.name,
        "outcome": item.outcome,
        "fields": list(item.fields),
        "first": None if item.first is None else dataset_fields(item.first),
        "second": None if item.second is None else dataset_fields(item.second),
    }


def same_data(backend: Backend, run: str, role: str | None = None) -> list[dict[str, Any]]:
    """Uses of the run's data (of what it used in one role) by other runs, the latest first; see :func:`named_uses`."""
    prints = {item.fingerprint for item in of_run(backend, run) if role in (None, item.role)} - {None}
    uses = backend.datasets(fingerprints=sorted(map(str, prints)), limit=MOST_USES) if prints else ()
    return named_uses(backend, [use for use in uses if use.run != run])


def named_uses(backend: Backend, uses: Sequence[DatasetUse]) -> list[dict[str, Any]]:
    """With the ``run`` and its ``run_name``."""
    names = {run: row.name for run in {use.run for use in uses} if (row := backend.run(run)) is not None}
    return [
        {"run": use.run, "run_name": names[use.run], **dataset_fields(use.dataset)} for use in uses if use.run in names
    ]
