"""The program with its data-loader workers and all else that it has started, together."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Iterable
from typing import TypeAlias

from looptap.resources import cpus, processes
from looptap.resources.cgroups import Groups
from looptap.resources.kernel_files import KernelFiles
from looptap.resources.processes import Details, Usage
from looptap.resources.rates import SHORTEST_SECONDS, known
from looptap.resources.reader import Metric, Reader, Subject
from looptap.resources.seldom import Seldom

_DETAILS_SECONDS = 5.0
_UNIQUE_SECONDS = 30.0
#: What is the program's own alone is asked so seldom that it takes this share of the time at most.
_UNIQUE_SHARE = 5e-4
#: Two for each process; of a large tree the others are opened each time. A program may not have many to spare.
_MOST_KEPT = 32
#: A process and no other: its number, and when it started.
_Process: TypeAlias = tuple[int, float]


class ProcessReader(Reader):
    metrics = (
        Metric("system.process.cpu", "percent", "processor time; 250 is two and a half cores"),
        Metric("system.process.cpu_share", "percent", "the same, of the cores that the program may use"),
        Metric("system.process.threads", "count", "threads"),
        Metric("system.process.processes", "count", "the program, its data-loader workers and all that they started"),
        Metric("system.process.memory", "bytes", "memory (RSS); pages that several of them share count for each"),
        Metric("system.process.memory_unique", "bytes", "memory that none shares with another (USS); every 30 s"),
        Metric(
            "system.process.memory_mapped",
            "bytes",
            "what of the memory are pages of files, which the kernel can take back at any time; Linux, every 5 s",
        ),
        Metric("system.process.memory_swap", "bytes", "what of it was swapped out; every 5 s"),
        Metric("system.process.read_rate", "bytes/s", "read from disks"),
        Metric("system.process.write_rate", "bytes/s", "written to disks"),
        Metric("system.process.open_files", "count", "open files, sockets and pipes; every 5 s"),
        Metric("system.process.context_switches_rate", "1/s", "times that it waited for something; every 5 s"),
        Metric("system.process.involuntary_switches_rate", "1/s", "times that its core was taken from it; every 5 s"),
    )

    def open(self, subject: Subject) -> None:
        self._kept = KernelFiles(_MOST_KEPT)
        self._tree = processes.Tree(subject.pid, self._kept.content)
        self._allowed = cpus.allowed(Groups())
        self._before: tuple[float, dict[_Process, Usage]] | None = None
        self._details_before: tuple[float, dict[_Process, Details]] | None = None
        self._details, self._unique = Seldom(_DETAILS_SECONDS), Seldom(_UNIQUE_SECONDS)

    def is_wanted(self, subject: Subject) -> bool:
        """Each process of a job has a tree of its own."""
        return True

    def close(self) -> None:
        self._kept.close()

    def read(self, now: float) -> dict[str, float]:
        usages = processes.usages(self._tree.pids(now), self._kept.content)
        self._kept.close_unused()
        found = {(usage.pid, usage.started): usage for usage in usages}
        values: dict[str, float | None] = {
            "system.process.threads": sum(usage.threads for usage in usages),
            "system.process.processes": len(usages),
            "system.process.memory": sum(usage.memory for usage in usages),
        }
        if self._details.is_due(now):
            values |= self._detailed(found, now)
        if self._unique.is_due(now):
            values["system.process.memory_unique"] = self._memory_unique(usages, now)
        return known({**values, **self._rates(found, now)})

    def _detailed(self, found: Iterable[_Process], now: float) -> dict[str, float | None]:
        told = {process: _of_all_threads(process[0], processes.details(process[0])) for process in found}
        values: dict[str, float | None] = {
            "system.process.memory_mapped": _sum(one.mapped for one in told.values()),
            "system.process.memory_swap": _sum(one.swap for one in told.values()),
            "system.process.open_files": _sum(one.open_files for one in told.values()),
        }
        before, self._details_before = self._details_before, (now, told)
        if before is not None:
            seconds, earlier = now - before[0], before[1]
            pairs = [(one, earlier.get(process, Details())) for process, one in told.items()]
            switches = sum(max(0, (one.switches or 0) - (last.switches or 0)) for one, last in pairs)
            involuntary = sum(max(0, (one.involuntary or 0) - (last.involuntary or 0)) for one, last in pairs)
            values["system.process.context_switches_rate"] = switches / seconds
            values["system.process.involuntary_switches_rate"] = involuntary / seconds
        return values

    def _memory_unique(self, found: list[Usage], now: float) -> int | None:
        began = time.thread_time()
        own = [processes.unique_memory(usage.pid) for usage in found]
        self._unique.not_within((time.thread_time() - began) / _UNIQUE_SHARE, now)
        return sum(one for one in own if one is not None) if own and own[0] is not None else None

    def _rates(self, found: dict[_Process, Usage], now: float) -> dict[str, float | None]:
        """Of those that were there before and still are, and of new ones. One that has ended has handed what it used to the one
        that started it."""
        if self._before is not None and now - self._before[0] < SHORTEST_SECONDS:
            return {}
        before, self._before = self._before, (now, found)
        if before is None:
            return {}
        seconds, earlier = now - before[0], before[1]
        grown = sum(max(0.0, one.cpu - (earlier[key].cpu if key in earlier else 0.0)) for key, one in found.items())
        # One that has ended and was not waited for has taken its time along: then what the others used is the least that was.
        cpu = max(grown, _cpu(found) - _cpu(earlier))
        return {
            "system.process.cpu": 100 * cpu / seconds,
            "system.process.cpu_share": 100 * cpu / seconds / self._allowed,
            "system.process.read_rate": _rate(_read(found), _read(earlier), seconds),
            "system.process.write_rate": _rate(_written(found), _written(earlier), seconds),
        }


def _cpu(found: dict[_Process, Usage]) -> float:
    return sum(usage.cpu + usage.cpu_ended for usage in found.values())


def _read(found: dict[_Process, Usage]) -> float | None:
    return _sum(usage.read for usage in found.values())


def _written(found: dict[_Process, Usage]) -> float | None:
    return _sum(usage.written for usage in found.values())


def _rate(count: float | None, before: float | None, seconds: float) -> float | None:
    return None if count is None or before is None or count < before else (count - before) / seconds


def _sum(values: Iterable[float | None]) -> float | None:
    """None when nobody may be asked for it."""
    told = [value for value in values if value is not None]
    return sum(told) if told else None


def _of_all_threads(pid: int, details: Details) -> Details:
    """Our own process can tell the switches of all of its threads."""
    if pid != os.getpid() or sys.platform != "linux":
        return details
    own = resource.getrusage(resource.RUSAGE_SELF)
    return details._replace(switches=own.ru_nvcsw, involuntary=own.ru_nivcsw)
