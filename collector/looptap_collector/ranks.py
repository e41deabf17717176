"""The end of a run that is a job of several processes: what the ends of its ranks come to.

Each rank tells its own end, or somebody finds that it is dead or silent. A rank that never recorded anything is not waited for:
programs log from rank 0 alone, and then the run is rank 0's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import msgspec


class Teller(Protocol):
    """What a store knows of one journal."""

    @property
    def rank(self) -> int: ...
    @property
    def status(self) -> str | None: ...
    @property
    def ended_ns(self) -> int | None: ...
    @property
    def error(self) -> str | None: ...


class End(msgspec.Struct, frozen=True):
    """``status`` as in :data:`looptap.events.RUN_STATUSES`, but ``running``."""

    status: str
    ended_ns: int | None
    error: str | None = None


def together(ends: Mapping[int, End | None]) -> End | None:
    """The end of the run, by the ends of its ranks; None while one of them goes on (its end is None), or when there are none.

    A rank that failed makes the run ``failed``, whatever became of the others: they are often taken down with it. A run whose
    rank 0 is gone is gone in the same way. Where others are gone and rank 0 has finished, the run is ``partial``. The error is
    that of the lowest rank that has such an end; it says which one where there are several.
    """
    told = {rank: end for rank, end in sorted(ends.items()) if end is not None}
    if not told or len(told) < len(ends):
        return None
    last_ns = max((end.ended_ns for end in told.values() if end.ended_ns is not None), default=None)
    worst = _first(told, "failed")
    if worst is not None:
        return End("failed", last_ns, _error(told, worst))
    first = min(told)
    gone = next((rank for rank, end in told.items() if end.status != "finished"), None)
    if gone is None:
        return End("finished", last_ns)
    if gone == first:
        return End(told[first].status, last_ns, _error(told, first))
    return End("partial", last_ns, _error(told, gone))


def _first(told: Mapping[int, End], status: str) -> int | None:
    return next((rank for rank, end in told.items() if end.status == status), None)


def _error(told: Mapping[int, End], rank: int) -> str | None:
    error = told[rank].error
    return error if len(told) == 1 or error is None else f"rank {rank}: {error}"


def ends_of(journals: Iterable[Teller]) -> dict[int, End | None]:
    """By rank, the end that it told: of several journals of one rank (it has forked), the last. None where there is none."""
    found: dict[int, End | None] = {}
    for entry in journals:
        before = found.get(entry.rank)
        end = None if entry.status is None else End(entry.status, entry.ended_ns, entry.error)
        if end is None or (before is not None and (before.ended_ns or 0) > (end.ended_ns or 0)):
            end = before
        found[entry.rank] = end
    return dict(sorted(found.items()))


def in_words(ranks: Iterable[int]) -> str:
    """Ranks in few characters: ``0–2, 5``."""
    parts: list[str] = []
    run: list[int] = []
    for rank in [*sorted(set(ranks)), None]:
        if run and rank != run[-1] + 1:
            parts.append(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}")
            run = []
        if rank is not None:
            run.append(rank)
    return ", ".join(parts)
