"""Counters of the whole machine. On Linux from ``/proc``, at a small part of what psutil takes; elsewhere by psutil."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import psutil

from looptap.resources.kernel_files import Read, content, number

_IS_LINUX = sys.platform == "linux"
#: What ``/proc/diskstats`` calls a sector, whatever the disk says.
_SECTOR = 512


class Memory(NamedTuple):
    """Bytes."""

    total: int
    available: int
    swap_total: int
    swap_used: int


class Traffic(NamedTuple):
    """Bytes since the machine was started: of all disks, of all network cards, of the swap space."""

    incoming: int
    outgoing: int


def cores(read: Read = content) -> list[tuple[float, float]]:
    """Of each core how long it has worked, and all of its time, both in a unit of the system's."""
    if not _IS_LINUX:
        return [_busy_and_all(core) for core in psutil.cpu_times(percpu=True)]
    found: list[tuple[float, float]] = []
    # Behind the line of all cores together: user, nice, system, idle, iowait, irq, softirq, steal, and the time of guests, which is
    # in the first two already (proc_stat(5)).
    for line in read("/proc/stat").split(b"\n")[1:]:
        if not line.startswith(b"cpu"):
            break
        times = [*map(int, line.split()[1:9])]
        found.append((sum(times) - times[3] - times[4], sum(times)))
    return found


def _busy_and_all(core: Any) -> tuple[float, float]:
    total = sum(core) - getattr(core, "guest", 0.0) - getattr(core, "guest_nice", 0.0)
    return total - core.idle - getattr(core, "iowait", 0.0), total


def memory(read: Read = content) -> Memory:
    if not _IS_LINUX:
        now, swap = psutil.virtual_memory(), psutil.swap_memory()
        return Memory(now.total, now.available, swap.total, swap.used)
    told = read("/proc/meminfo")
    total, available, swap_total, swap_free = (
        (number(told, title) or 0) * 1024 for title in (b"MemTotal:", b"MemAvailable:", b"SwapTotal:", b"SwapFree:")
    )
    return Memory(total, available, swap_total, swap_total - swap_free)


def swap_traffic(read: Read = content) -> Traffic:
    if not _IS_LINUX:
        swap = psutil.swap_memory()
        return Traffic(swap.sin, swap.sout)
    events, page = read("/proc/vmstat"), os.sysconf("SC_PAGE_SIZE")
    return Traffic((number(events, b"pswpin ") or 0) * page, (number(events, b"pswpout ") or 0) * page)


def disks() -> list[str]:
    """Names of those that are disks themselves: no parts of one, and nothing that is made of others (RAID, LVM, loops)."""
    try:
        return [name for name in os.listdir("/sys/block") if os.path.exists(f"/sys/block/{name}/device")]
    except OSError:
        return []


def disk_traffic(names: Sequence[str], read: Read = content) -> Traffic | None:
    if not _IS_LINUX:
        told = psutil.disk_io_counters()
        return None if told is None else Traffic(told.read_bytes, told.write_bytes)
    if not names:
        return None
    rows = [row for line in read("/proc/diskstats").splitlines() if (row := line.split(None, 10))[2].decode() in names]
    if not rows:
        return None
    return Traffic(sum(int(row[5]) for row in rows) * _SECTOR, sum(int(row[9]) for row in rows) * _SECTOR)


def network_traffic(read: Read = content) -> Traffic | None:
    """The loopback left out."""
    if not _IS_LINUX:
        cards = [card for name, card in psutil.net_io_counters(pernic=True).items() if not name.startswith("lo")]
        received, sent = [card.bytes_recv for card in cards], [card.bytes_sent for card in cards]
    else:
        # Behind two lines of titles: name, then eight numbers each of what was received and sent.
        lines = [line.partition(b":") for line in read("/proc/net/dev").splitlines()[2:]]
        rows = [rest.split(None, 9) for name, _, rest in lines if name.strip() != b"lo"]
        received, sent = [int(row[0]) for row in rows], [int(row[8]) for row in rows]
    return Traffic(sum(received), sum(sent)) if received else None
