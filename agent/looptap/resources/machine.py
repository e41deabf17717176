"""Counters of the whole machine. On Linux from ``/proc``, at a quarter of what psutil takes for the same; elsewhere by psutil."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

import psutil

from looptap.resources.processes import content, number

_IS_LINUX = sys.platform == "linux"
#: What ``/proc/diskstats`` calls a sector, whatever the disk says.
_SECTOR = 512


class Memory(NamedTuple):
    """Bytes; ``swapped_in`` and ``swapped_out`` since the machine was started."""

    total: int
    available: int
    swap_used: int
    swapped_in: int
    swapped_out: int


class Traffic(NamedTuple):
    """Bytes since the machine was started, of all disks or network cards."""

    incoming: int
    outgoing: int


def memory() -> Memory:
    if not _IS_LINUX:
        now, swap = psutil.virtual_memory(), psutil.swap_memory()
        return Memory(now.total, now.available, swap.used, swap.sin, swap.sout)
    told, events = b"\n" + content("/proc/meminfo"), b"\n" + content("/proc/vmstat").replace(b" ", b":")

    def of(name: bytes) -> int:
        return (number(told, name) or 0) * 1024

    page = os.sysconf("SC_PAGE_SIZE")
    return Memory(
        of(b"MemTotal"),
        of(b"MemAvailable"),
        of(b"SwapTotal") - of(b"SwapFree"),
        (number(events, b"pswpin") or 0) * page,
        (number(events, b"pswpout") or 0) * page,
    )


def disks() -> list[str]:
    """Names of those that are disks themselves: no parts of one, and nothing that is made of others (RAID, LVM, loops)."""
    try:
        return [name for name in os.listdir("/sys/block") if os.path.exists(f"/sys/block/{name}/device")]
    except OSError:
        return []


def disk_traffic(names: Sequence[str]) -> Traffic | None:
    if not _IS_LINUX:
        told = psutil.disk_io_counters()
        return None if told is None else Traffic(told.read_bytes, told.write_bytes)
    rows = [row for line in content("/proc/diskstats").splitlines() if (row := line.split())[2].decode() in names]
    if not rows:
        return None
    return Traffic(sum(int(row[5]) for row in rows) * _SECTOR, sum(int(row[9]) for row in rows) * _SECTOR)


def network_traffic() -> Traffic | None:
    """The loopback left out."""
    if not _IS_LINUX:
        cards = [card for name, card in psutil.net_io_counters(pernic=True).items() if not name.startswith("lo")]
        received, sent = [card.bytes_recv for card in cards], [card.bytes_sent for card in cards]
    else:
        # Behind two lines of titles: name, then eight numbers each of what was received and sent.
        lines = [line.partition(b":") for line in content("/proc/net/dev").splitlines()[2:]]
        rows = [rest.split() for name, _, rest in lines if name.strip() != b"lo"]
        received, sent = [int(row[0]) for row in rows], [int(row[8]) for row in rows]
    return Traffic(sum(received), sum(sent)) if received else None
