"""How many cores this process may use."""

from __future__ import annotations

import os

from looptap.resources.cgroups import Groups


def affinity() -> int:
    """Cores that the scheduler may put it on (taskset, a batch system, a cpuset of a container)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def allowed(groups: Groups) -> float:
    """The cores that it may keep busy: those of its affinity, less where its container has a quota of their time."""
    quota = groups.cpu_quota
    return float(affinity()) if quota is None else min(float(affinity()), quota[1])
