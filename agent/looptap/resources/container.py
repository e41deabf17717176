"""What the container of the program, or any other control group around it, may use and has used.

Where several groups lie within each other, that with the tightest limit counts, for memory and for processors each. Where none has
a limit, it is the program's own group.
"""

from __future__ import annotations

from looptap.resources import cpus
from looptap.resources.cgroups import Group, Groups
from looptap.resources.kernel_files import KernelFiles
from looptap.resources.rates import Rates, known
from looptap.resources.reader import Absent, Metric, Reader, Subject
from looptap.resources.seldom import Seldom

#: The kernel makes a mean of ten seconds of them, every two.
_PRESSURE_SECONDS = 5.0


class ContainerReader(Reader):
    metrics = (
        Metric("system.container.cpu", "percent", "processor time, of its quota; without one, of the cores it may use"),
        Metric(
            "system.container.cpu_throttled", "percent", "of the periods of its quota, those in which it was stopped"
        ),
        Metric("system.container.memory", "bytes", "memory without the page cache that can be given back at once"),
        Metric("system.container.memory_percent", "percent", "the same, of its limit"),
        Metric(
            "system.container.memory_pressure",
            "percent",
            "of the last ten seconds, when a process waited for memory; every 5 s",
        ),
        Metric("system.container.cpu_pressure", "percent", "when one waited for a core; every 5 s"),
        Metric("system.container.io_pressure", "percent", "when one waited for a disk; every 5 s"),
        Metric("system.container.oom_kills", "count", "processes that were killed for lack of memory, so far"),
    )

    def __init__(self, groups: Groups | None = None) -> None:
        self._kept = KernelFiles(most=8)
        self._groups = groups

    def open(self, subject: Subject) -> None:
        groups = self._groups = self._groups or Groups(read=self._kept.content)
        own = [chain[0] for name in ("memory", "cpu", "unified") if (chain := groups.of(name))]
        if not own:
            raise Absent("the program is in no control group")
        self._limit, self._quota = groups.memory_limit, groups.cpu_quota
        self._memory = _counting(self._limit, groups.of("memory"))
        self._cpu = _counting(self._quota, groups.of("cpu"))
        self._unified = next(iter(groups.of("unified")), None)
        self._cores = self._quota[1] if self._quota else float(cpus.affinity())
        self._rates = Rates()
        self._periods: tuple[int, int] | None = None
        self._pressure = Seldom(_PRESSURE_SECONDS)

    def close(self) -> None:
        self._kept.close()

    def read(self, now: float) -> dict[str, float]:
        groups = self._groups
        assert groups is not None
        values: dict[str, float | None] = {"system.container.oom_kills": groups.oom_kills}
        if self._memory is not None:
            used = values["system.container.memory"] = self._memory.memory
            if used is not None and self._limit is not None:
                values["system.container.memory_percent"] = 100 * used / self._limit[1]
        if self._cpu is not None:
            cores = self._rates.of("cpu", groups.used_by(self._cpu), now)
            values["system.container.cpu"] = None if cores is None else 100 * cores / self._cores
            if self._quota is not None:
                values["system.container.cpu_throttled"] = self._throttled(self._cpu)
        if self._unified is not None and self._pressure.is_due(now):
            for what in ("memory", "cpu", "io"):
                values[f"system.container.{what}_pressure"] = self._unified.pressure(f"{what}.pressure")
        return known(values)

    def _throttled(self, group: Group) -> float | None:
        before, self._periods = self._periods, group.throttling
        if before is None or self._periods is None or self._periods[0] <= before[0]:
            return None
        return 100 * max(0, self._periods[1] - before[1]) / (self._periods[0] - before[0])


def _counting(tightest: tuple[Group, float] | None, chain: list[Group]) -> Group | None:
    return tightest[0] if tightest is not None else chain[0] if chain else None
