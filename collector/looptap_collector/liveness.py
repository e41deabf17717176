"""Runs that have fallen silent.

A run tells that it lives by a heartbeat at least every ten seconds. When its process dies on this machine, whoever adopts its
journal says ``killed``; this is for the others: the machine is away, or its disk is.
"""

from __future__ import annotations

import time
from collections.abc import Container

from looptap_collector.backend import Backend
from looptap_collector.ranks import End, ends_of, together

#: Together with the pause between two looks (:mod:`looptap_collector.server.app`), a run is lost within a minute.
SILENT_SECONDS = 50


def mark_lost(backend: Backend, waiting: Container[str], now_ns: int | None = None) -> list[str]:
    """Give the status ``lost`` to running runs without a sign of life for so long; returns their names. A job some of whose
    processes have told their end is what that comes to: ``partial``, say.

    ``waiting`` are the ids of runs with a journal on this machine: they live, or what they left is not delivered yet.
    A run that is heard of again is running again.
    """
    limit = (time.time_ns() if now_ns is None else now_ns) - SILENT_SECONDS * 10**9
    lost = []
    for row in backend.runs(status="running"):
        last = max(row.started_ns, row.heartbeat_ns or 0)
        if last < limit and row.run not in waiting:
            end = _end(backend, row.run, last)
            backend.set_status(row.run, end.status, ended_ns=end.ended_ns, error=end.error)
            lost.append(row.name)
    return lost


def _end(backend: Backend, run: str, last_ns: int) -> End:
    """What becomes of a run whose processes have told their end or are silent."""
    silent = End("lost", last_ns, f"no sign of life for {SILENT_SECONDS} seconds")
    ends = ends_of(backend.delivery(run))
    return together({rank: end or silent for rank, end in ends.items()}) or silent
