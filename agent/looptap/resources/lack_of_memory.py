"""Whether a process that ended without a word was killed by the kernel for lack of memory.

Nothing of it is left but its control group, where that outlives it. The kernel counts there how many processes it has killed so;
the samples of the run have the count of before. A process that lives would have said how it ended, so one more since the last
sample, a second or ten before the end, means this one, or one that took it along.
"""

from __future__ import annotations

from collections.abc import Mapping

from looptap.resources.cgroups import Groups

KILLS = "system.container.oom_kills"


def found(cgroups: str, samples: Mapping[str, float], groups: Groups | None = None) -> str | None:
    """Why it ended, in words; None when that is not known. ``cgroups``: what ``/proc/PID/cgroup`` said of it, under the same start
    of the kernel; ``samples``: the last ones that it took."""
    groups = groups or Groups(cgroups)
    kills, before = groups.oom_kills, samples.get(KILLS)
    if not cgroups or kills is None or before is None or kills <= before:
        return None
    limit = groups.memory_limit
    room = "" if limit is None else f", which may use {limit[1] / 2**20:,.0f} MiB"
    return f"out of memory; the kernel has killed {kills - int(before)} of the processes in its container{room}"
