"""Makes of journal records what the wire carries: one array per series, everything else as it is."""

from __future__ import annotations

import sys
import time
from array import array
from collections.abc import Iterable
from typing import TypeAlias

from looptap.events import (
    Batch,
    BatchRecord,
    Context,
    Dropped,
    File,
    JournalRecord,
    Points,
    SeriesPoints,
)

#: A record, its number, and how many numbers it takes.
Numbered: TypeAlias = tuple[int, int, JournalRecord]

#: After so many records other threads get their turn: what we hold the interpreter for, the training waits for.
_BREATH = 200


class _Columns:
    __slots__ = ("context", "key", "steps", "times", "values")

    def __init__(self, key: str, context: Context) -> None:
        self.key = key
        self.context = context
        self.steps = array("q")
        self.times = array("q")
        self.values = array("d")

    def pack(self) -> SeriesPoints:
        return SeriesPoints(self.key, self.context, _bytes(self.steps), _bytes(self.times), _bytes(self.values))


def make_batch(
    run: str, journal: str, first: int, end: int, records: Iterable[Numbered], dropped: dict[str, int]
) -> Batch:
    """The records of a journal from ``first`` to ``end - 1``. A :class:`File` must have become an Artifact before."""
    series: dict[tuple[tuple[str, str], ...], dict[str, _Columns]] = {}
    others: list[BatchRecord] = []
    for number, (_, _, record) in enumerate(records, 1):
        if number % _BREATH == 0:
            time.sleep(0)
        if type(record) is Points:
            context = record.context
            where = tuple(sorted(context.items())) if context else ()
            group = series.get(where)
            if group is None:
                group = series[where] = {}
            step, time_ns = record.step, record.time_ns
            for key, value in record.values.items():
                columns = group.get(key)
                if columns is None:
                    columns = group[key] = _Columns(key, context)
                columns.steps.append(step)
                columns.times.append(time_ns)
                columns.values.append(value)
        elif isinstance(record, File):
            raise TypeError("a File stays in the journal; its Artifact goes into a batch")
        elif not isinstance(record, Dropped | Points):
            others.append(record)
    return Batch(
        run=run,
        journal=journal,
        first=first,
        next=end,
        series=tuple(columns.pack() for group in series.values() for columns in group.values()),
        records=tuple(others),
        dropped=dict(dropped),
        heartbeat_ns=time.time_ns(),
    )


def _bytes(items: array[int] | array[float]) -> bytes:
    if sys.byteorder == "big":
        items.byteswap()
    return items.tobytes()
