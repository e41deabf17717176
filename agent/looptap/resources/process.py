"""The program with its data-loader workers and all else that it has started, together."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable

from looptap.resources import cpus, processes
from looptap.resources.cgroups import Groups
from looptap.resources.processes import Usage
from looptap.resources.rates import SHORTEST_SECONDS, known
from looptap.resources.reader import Metric, Reader, Subject

_UNIQUE_SECONDS = 30.0
#: What is the program's own alone is asked so seldom that it takes this share of the time at most.
_UNIQUE_SHARE = 5e-4


class ProcessReader(Reader):
    metrics = (
        Metric("system.process.cpu", "percent", "processor time; 250 is two and a half cores"),
        Metric("system.process.cpu_share", "percent", "the same, of the cores that the program may use"),
        Metric("system.process.threads", "count", "threads"),
        Metric("system.process.processes", "count", "the program, its data-loader workers and all that they started"),
        Metric("system.process.memory", "bytes", "memory (RSS); pages that several of them share count for each"),
        Metric("system.process.memory_unique", "bytes", "memory that none shares with another (USS); every 30 s"),
        Metric("system.process.memory_swap", "bytes", "what of it was swapped out"),
        Metric("system.process.read_rate", "bytes/s", "read from disks"),
        Metric("system.process.write_rate", "bytes/s", "written to disks"),
        Metric("system.process.open_files", "count", "open files, sockets and pipes"),
        Metric("system.process.context_switches_rate", "1/s", "times that it waited for something"),
        Metric("system.process.involuntary_switches_rate", "1/s", "times that its core was taken from it"),
    )

    def open(self, subject: Subject) -> None:
        self._tree = processes.Tree(subject.pid)
        self._allowed = cpus.allowed(Groups())
        self._before: tuple[float, dict[tuple[int, float], Usage]] | None = None
        self._unique_at = 0.0

    def is_wanted(self, subject: Subject) -> bool:
        """Each process of a job has a tree of its own."""
        return True

    def read(self, now: float) -> dict[str, float]:
        found = [_of_all_threads(usage) for usage in processes.usages(self._tree.pids(now))]
        values = {
            "system.process.threads": float(sum(usage.threads for usage in found)),
            "system.process.processes": float(len(found)),
            "system.process.memory": float(sum(usage.memory for usage in found)),
            **known(
                {
                    "system.process.memory_swap": _sum(found, lambda usage: usage.swap),
                    "system.process.open_files": _sum(found, lambda usage: usage.files),
                }
            ),
        }
        if now >= self._unique_at:
            values |= known({"system.process.memory_unique": self._unique(found, now)})
        return values | self._rates({(usage.pid, usage.started): usage for usage in found}, now)

    def _unique(self, found: list[Usage], now: float) -> int | None:
        began = time.thread_time()
        own = [processes.unique_memory(usage.pid) for usage in found]
        self._unique_at = now + max(_UNIQUE_SECONDS, (time.thread_time() - began) / _UNIQUE_SHARE)
        return sum(one for one in own if one is not None) if own and own[0] is not None else None

    def _rates(self, found: dict[tuple[int, float], Usage], now: float) -> dict[str, float]:
        """Of those that were there before and still are, and of new ones. One that has ended has handed what it used to the one
        that started it."""
        if self._before is not None and now - self._before[0] < SHORTEST_SECONDS:
            return {}
        before, self._before = self._before, (now, found)
        if before is None:
            return {}
        seconds, earlier = now - before[0], before[1]
        pairs = [(usage, earlier.get(key)) for key, usage in found.items()]

        def grown(of: Callable[[Usage], float | None]) -> float:
            return sum(max(0.0, (of(usage) or 0) - ((of(last) or 0) if last else 0)) for usage, last in pairs)

        def grown_together(of: Callable[[Usage], float | None]) -> float | None:
            after, first = _sum(list(found.values()), of), _sum(list(earlier.values()), of)
            return None if after is None or first is None else after - first

        # One that has ended and was not waited for has taken its time along: then what the others used is the least that was.
        cpu = max(grown(lambda usage: usage.cpu), grown_together(lambda usage: usage.cpu + usage.cpu_ended) or 0.0)
        values: dict[str, float | None] = {
            "system.process.cpu": 100 * cpu / seconds,
            "system.process.cpu_share": 100 * cpu / seconds / self._allowed,
            "system.process.context_switches_rate": grown(lambda usage: usage.switches) / seconds,
            "system.process.involuntary_switches_rate": grown(lambda usage: usage.involuntary) / seconds,
        }
        for name, of in (("read_rate", _read), ("write_rate", _written)):
            count = grown_together(of)
            if count is not None and count >= 0:
                values[f"system.process.{name}"] = count / seconds
        return known(values)


def _read(usage: Usage) -> int | None:
    return usage.read


def _written(usage: Usage) -> int | None:
    return usage.written


def _sum(found: list[Usage], of: Callable[[Usage], float | None]) -> float | None:
    """None when nobody may be asked for it."""
    told = [value for usage in found if (value := of(usage)) is not None]
    return sum(told) if told else None


def _of_all_threads(usage: Usage) -> Usage:
    """Our own process can tell the switches of all of its threads."""
    if usage.pid != os.getpid() or sys.platform != "linux":
        return usage
    own = resource.getrusage(resource.RUSAGE_SELF)
    return usage._replace(switches=own.ru_nvcsw, involuntary=own.ru_nivcsw)
