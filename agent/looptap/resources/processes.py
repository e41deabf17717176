"""A process and all that it has started: who they are, and what each of them has used.

On Linux from ``/proc``, elsewhere by psutil. A process may be gone between being listed and being read: then it is left out. One
that has taken the number of another is told by when it started.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable
from typing import NamedTuple

import psutil

from looptap.resources.kernel_files import Read, content, number

_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_IS_LINUX = sys.platform == "linux"
#: A tree that is deeper or wider than this is cut there: something is wrong with it.
_MOST_PROCESSES = 10_000
_ALL_THREADS_SECONDS = 10.0
_UNIQUE = (b"Private_Clean:", b"Private_Dirty:", b"Private_Hugetlb:")


class Usage(NamedTuple):
    """Of one process since it started. What cannot be read, because it is another user's, say, is None."""

    pid: int
    #: With the pid, the process and no other.
    started: float
    #: Seconds of processor time: its own, and that of its children that have ended and were waited for.
    cpu: float
    cpu_ended: float
    threads: int
    memory: int
    #: Bytes from and to disks; on Linux with those of its children that have ended.
    read: int | None = None
    written: int | None = None


class Details(NamedTuple):
    """What else a process has, and has done since it started, which the kernel takes longer to tell."""

    swap: int | None = None
    #: Bytes of its memory that are pages of files; Linux only.
    mapped: int | None = None
    #: Files, sockets and pipes.
    open_files: int | None = None
    #: Context switches; on Linux those of its main thread.
    switches: int | None = None
    involuntary: int | None = None


class Tree:
    """A process and all below it.

    Each thread has the children that it has started itself. Asked each time are the main thread of the program, and those that had
    children when all were asked, which is every ten seconds: a hundred files read at once are felt by the training.
    """

    def __init__(self, root: int, read: Read = content) -> None:
        self.root = root
        self._read = read
        self._knows_children = _IS_LINUX and os.path.exists(f"/proc/{root}/task/{root}/children")
        self._asked_all_at = -math.inf
        #: The threads to ask, by process.
        self._parents: dict[int, list[int]] = {}

    def pids(self, now: float) -> list[int]:
        if not self._knows_children:
            return _by_psutil(self.root)
        asks_all = now >= self._asked_all_at + _ALL_THREADS_SECONDS
        if asks_all:
            self._asked_all_at, self._parents = now, {}
        found, at = [self.root], 0
        while at < len(found) < _MOST_PROCESSES:
            found += self._children(found[at], asks_all)
            at += 1
        return found

    def _children(self, pid: int, asks_all: bool) -> list[int]:
        found: list[int] = []
        try:
            threads = self._threads(pid) if asks_all else self._parents.get(pid, ())
            for thread in threads:
                path = f"/proc/{pid}/task/{thread}/children"
                # The others are asked this once, mostly, and need not stay open.
                read = self._read if thread == self.root or not asks_all else content
                children = read(path).split()
                if asks_all and (children or thread == self.root):
                    self._parents.setdefault(pid, []).append(thread)
                found += map(int, children)
        except OSError:  # it or its thread has ended
            pass
        return found

    @staticmethod
    def _threads(pid: int) -> list[int]:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]


def _by_psutil(root: int) -> list[int]:
    """All processes of the machine are asked for their parents."""
    try:
        return [root, *(child.pid for child in psutil.Process(root).children(recursive=True))]
    except psutil.Error:
        return [root]


def usages(pids: Iterable[int], read: Read = content) -> list[Usage]:
    """Of those that still are there."""
    if not _IS_LINUX:
        return [found for pid in pids if (found := _from_psutil(pid)) is not None]
    return [found for pid in pids if (found := _from_proc(pid, read)) is not None]


def details(pid: int) -> Details:
    if not _IS_LINUX:
        return _details_by_psutil(pid)
    try:
        status = content(f"/proc/{pid}/status")
        swap, mapped = number(status, b"VmSwap:"), number(status, b"RssFile:")
        return Details(
            None if swap is None else swap * 1024,
            None if mapped is None else mapped * 1024,
            _open_files(pid),
            number(status, b"voluntary_ctxt_switches:"),
            number(status, b"nonvoluntary_ctxt_switches:"),
        )
    except OSError:  # not ours to read, or it has ended since
        return Details()


def _open_files(pid: int) -> int:
    folder = f"/proc/{pid}/fd"
    # Linux 6.2 and later say how many there are; each name that is listed costs as much.
    return os.stat(folder).st_size or len(os.listdir(folder))


def unique_memory(pid: int) -> int | None:
    """Bytes that would be free if this process ended: what it shares with no other. The kernel walks through all of its memory for
    it, so this is not for every second."""
    try:
        if _IS_LINUX:
            sums = content(f"/proc/{pid}/smaps_rollup")
            return sum(number(sums, name) or 0 for name in _UNIQUE) * 1024
        return int(psutil.Process(pid).memory_full_info().uss)
    except (OSError, psutil.Error, AttributeError):
        return None


def _from_proc(pid: int, read: Read) -> Usage | None:
    try:
        # The name stands in parentheses and may hold anything, blanks included (proc_pid_stat(5)).
        stat = read(f"/proc/{pid}/stat").rpartition(b")")[2].split(None, 22)
    except OSError:
        return None
    if len(stat) < 22 or stat[0] in (b"Z", b"X"):  # it has ended, and its parent has not looked yet
        return None
    incoming = outgoing = None
    try:
        io = read(f"/proc/{pid}/io")
        incoming, outgoing = number(io, b"read_bytes:"), number(io, b"write_bytes:")
    except OSError:  # not ours to read, or it has ended since
        pass
    return Usage(
        pid,
        float(stat[19]),
        (int(stat[11]) + int(stat[12])) / _TICKS,
        (int(stat[13]) + int(stat[14])) / _TICKS,
        int(stat[17]),
        int(stat[21]) * _PAGE,
        incoming,
        outgoing,
    )


def _from_psutil(pid: int) -> Usage | None:
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            cpu = process.cpu_times()
            usage = Usage(
                pid,
                process.create_time(),
                cpu.user + cpu.system,
                getattr(cpu, "children_user", 0.0) + getattr(cpu, "children_system", 0.0),
                process.num_threads(),
                process.memory_info().rss,
            )
            try:
                if hasattr(process, "io_counters"):
                    io = process.io_counters()
                    usage = usage._replace(read=io.read_bytes, written=io.write_bytes)
            except psutil.AccessDenied:
                pass
            return usage
    except psutil.Error:
        return None


def _details_by_psutil(pid: int) -> Details:
    try:
        process = psutil.Process(pid)
        switches = process.num_ctx_switches()
        files = process.num_fds() if hasattr(process, "num_fds") else None
        return Details(None, None, files, switches.voluntary, switches.involuntary)
    except psutil.Error:
        return Details()
