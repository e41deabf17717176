"""The machine that the program runs on, with all that others do there."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import psutil

from looptap.resources import machine
from looptap.resources.kernel_files import KernelFiles
from looptap.resources.rates import SHORTEST_SECONDS, Rates, known
from looptap.resources.reader import Metric, Reader, Subject
from looptap.resources.seldom import Seldom

_DISK_SECONDS = 5.0


class HostReader(Reader):
    metrics = (
        Metric("system.cpu.utilization", "percent", "mean over the cores of the machine"),
        Metric("system.cpu.busiest", "percent", "of the busiest core"),
        Metric("system.cpu.load_1m", "count", "processes that run or wait to run, mean of a minute"),
        Metric("system.memory.used", "bytes", "memory in use: what is not available"),
        Metric("system.memory.total", "bytes", "memory of the machine"),
        Metric("system.memory.available", "bytes", "memory that can be had without swapping"),
        Metric("system.memory.percent", "percent", "of the memory, what is not available"),
        Metric("system.swap.used", "bytes", "swap space in use"),
        Metric("system.swap.in_rate", "bytes/s", "read back from swap"),
        Metric("system.swap.out_rate", "bytes/s", "swapped out"),
        Metric("system.disk.used", "bytes", "of the file system of the working directory; every 5 s"),
        Metric("system.disk.free", "bytes", "what is free of it for this user; every 5 s"),
        Metric("system.disk.percent", "percent", "how full it is for this user; every 5 s"),
        Metric("system.disk.read_rate", "bytes/s", "read from all disks of the machine"),
        Metric("system.disk.write_rate", "bytes/s", "written to them"),
        Metric("system.network.sent_rate", "bytes/s", "sent by the machine, the loopback left out"),
        Metric("system.network.received_rate", "bytes/s", "received by it"),
    )

    def open(self, subject: Subject) -> None:
        self._folder = subject.folder
        self._kept = KernelFiles(most=5)
        self._rates = Rates()
        self._disk_use = Seldom(_DISK_SECONDS)
        self._disks = machine.disks()
        self._swapped: machine.Traffic | None = None
        self._cores: tuple[float, list[tuple[float, float]]] | None = None

    def close(self) -> None:
        self._kept.close()

    def allotted(self) -> dict[str, Any]:
        return {"allotted.disk": psutil.disk_usage(self._folder).free}

    def read(self, now: float) -> dict[str, float]:
        return {**self._cpu(now), **self._memory(now), **self._disk(now), **self._network(now)}

    def _cpu(self, now: float) -> dict[str, float]:
        values = {}
        if hasattr(os, "getloadavg"):
            values["system.cpu.load_1m"] = os.getloadavg()[0]
        if self._cores is not None and now - self._cores[0] < SHORTEST_SECONDS:
            return values
        before, self._cores = self._cores, (now, machine.cores(self._kept.content))
        cores = self._cores[1]
        # Cores can be taken away from a machine, and given to it.
        if before is None or len(before[1]) != len(cores):
            return values
        shares = [
            100 * min(1.0, max(0.0, (busy - was_busy) / (total - was_total)))
            for (busy, total), (was_busy, was_total) in zip(cores, before[1], strict=True)
            if total > was_total
        ]
        if shares:
            values["system.cpu.utilization"] = sum(shares) / len(shares)
            values["system.cpu.busiest"] = max(shares)
        return values

    def _memory(self, now: float) -> dict[str, float]:
        memory = machine.memory(self._kept.content)
        # Without swap space the counters stand still, and the file of all events of the kernel is a long one.
        if memory.swap_total or self._swapped is None:
            self._swapped = machine.swap_traffic(self._kept.content)
        return known(
            {
                "system.memory.used": memory.total - memory.available,
                "system.memory.total": memory.total,
                "system.memory.available": memory.available,
                "system.memory.percent": 100 * (1 - memory.available / memory.total),
                "system.swap.used": memory.swap_used,
                "system.swap.in_rate": self._rates.of("swap in", self._swapped.incoming, now),
                "system.swap.out_rate": self._rates.of("swap out", self._swapped.outgoing, now),
            }
        )

    def _disk(self, now: float) -> dict[str, float]:
        values: dict[str, float | None] = {}
        if self._disk_use.is_due(now):
            with contextlib.suppress(OSError):  # the working directory was removed
                usage = psutil.disk_usage(self._folder)
                values = {
                    "system.disk.used": usage.used,
                    "system.disk.free": usage.free,
                    "system.disk.percent": usage.percent,
                }
        if (traffic := machine.disk_traffic(self._disks, self._kept.content)) is not None:
            values["system.disk.read_rate"] = self._rates.of("disk read", traffic.incoming, now)
            values["system.disk.write_rate"] = self._rates.of("disk write", traffic.outgoing, now)
        return known(values)

    def _network(self, now: float) -> dict[str, float]:
        if (traffic := machine.network_traffic(self._kept.content)) is None:
            return {}
        return known(
            {
                "system.network.sent_rate": self._rates.of("sent", traffic.outgoing, now),
                "system.network.received_rate": self._rates.of("received", traffic.incoming, now),
            }
        )
