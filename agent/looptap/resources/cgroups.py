"""The control groups that a process is in: what a container may use, and what it has used.

Versions 1 and 2, and both at once (hybrid), as containers see them: the process's own paths are in ``/proc/self/cgroup``, where the
trees are in ``/proc/self/mountinfo``, which may show a part of a tree only. Limits hold for all groups from the own one up, so the
tightest counts, and what is used is what that group uses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from looptap.resources import kernel_files
from looptap.resources.kernel_files import Read

#: Version 1 says "no limit" by a number near the end of the address space.
_NO_LIMIT = 2**60


@dataclass(frozen=True)
class Group:
    """One group of one controller."""

    folder: Path
    version: int
    read: Read = field(default=kernel_files.content, compare=False, repr=False)

    def number(self, name: str) -> int | None:
        """What the file holds; None without it, and where it says ``max``."""
        text = self._content(name).strip()
        return int(text) if text.lstrip(b"-").isdigit() else None

    def counted(self, name: str, what: bytes) -> int | None:
        """Of lines of ``what number``."""
        return kernel_files.number(self._content(name), what + b" ")

    def pressure(self, name: str) -> float | None:
        """Percent of the last ten seconds in which some process of it waited (pressure stall information)."""
        for word in self._content(name).split():
            if word.startswith(b"avg10="):
                return float(word.removeprefix(b"avg10="))
        return None

    def _content(self, name: str) -> bytes:
        try:
            return self.read(f"{self.folder}/{name}")
        except OSError:
            return b""

    @property
    def is_machine(self) -> bool:
        """Only the top of a whole tree has the one file, and has not the other."""
        return (
            not (self.folder / "cgroup.type").exists()
            if self.version == 2
            else (self.folder / "release_agent").exists()
        )

    @property
    def controllers(self) -> list[str]:
        """Of version 2: those that reach it."""
        return ["unified", *self._content("cgroup.controllers").decode("ascii", "replace").split()]

    # --- memory -----------------------------------------------------------------------------------------------------

    @property
    def memory_limit(self) -> int | None:
        if self.version == 2:
            return self.number("memory.max")
        limit = self.number("memory.limit_in_bytes")
        return None if limit is None or limit >= _NO_LIMIT else limit

    @property
    def memory(self) -> int | None:
        """Bytes in use without the part of the page cache that can be given back at once, as ``docker stats`` says it."""
        name = "memory.current" if self.version == 2 else "memory.usage_in_bytes"
        used = self.number(name)
        if used is None:
            return None
        cache = self.counted("memory.stat", b"inactive_file" if self.version == 2 else b"total_inactive_file")
        return max(0, used - (cache or 0))

    @property
    def oom_kills(self) -> int | None:
        """Processes of it that were killed for lack of memory."""
        return self.counted("memory.events" if self.version == 2 else "memory.oom_control", b"oom_kill")

    # --- processors -------------------------------------------------------------------------------------------------

    @property
    def cpu_quota(self) -> float | None:
        """How many cores' time it may use."""
        if self.version == 2:
            quota, _, period = self._content("cpu.max").strip().partition(b" ")
            return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None
        microseconds, every = self.number("cpu.cfs_quota_us"), self.number("cpu.cfs_period_us")
        return microseconds / every if microseconds is not None and microseconds > 0 and every else None

    @property
    def throttling(self) -> tuple[int, int] | None:
        """Periods of the quota, and in how many of them it was stopped."""
        periods, stopped = self.counted("cpu.stat", b"nr_periods"), self.counted("cpu.stat", b"nr_throttled")
        return None if periods is None or stopped is None else (periods, stopped)

    @property
    def cpu_seconds(self) -> float | None:
        if self.version == 2:
            used = self.counted("cpu.stat", b"usage_usec")
            return None if used is None else used / 1e6
        nanoseconds = self.number("cpuacct.usage")
        return None if nanoseconds is None else nanoseconds / 1e9


class Groups:
    """The groups of a process, by controller: the own one first, then those that it lies in."""

    def __init__(
        self, membership: str | None = None, root: Path = Path("/"), read: Read = kernel_files.content
    ) -> None:
        """``membership``: what ``/proc/PID/cgroup`` says, without it that of this process. ``root`` stands for ``/``."""
        self._of: dict[str, list[Group]] = {}
        try:
            trees = list(_trees((root / "proc/self/mountinfo").read_text("utf-8", "replace")))
            lines = (membership or (root / "proc/self/cgroup").read_text("utf-8", "replace")).splitlines()
        except OSError:
            return
        for line in lines:
            _, _, rest = line.partition(":")
            names, _, path = rest.partition(":")
            controllers = frozenset(names.split(",")) if names else frozenset()
            tree = next((tree for tree in trees if tree.has(controllers)), None)
            for group in tree.chain(path, root, read) if tree is not None else ():
                for controller in controllers or group.controllers:
                    self._of.setdefault(controller, []).append(group)

    def of(self, controller: str) -> list[Group]:
        """From the own one up; ``unified`` are those of version 2, whatever controllers they have."""
        return self._of.get(controller, [])

    @property
    def memory_limit(self) -> tuple[Group, int] | None:
        """The tightest limit of memory, and the group that has it."""
        limits = [(group, limit) for group in self.of("memory") if (limit := group.memory_limit) is not None]
        return min(limits, key=lambda pair: pair[1], default=None)

    @property
    def cpu_quota(self) -> tuple[Group, float] | None:
        """The tightest quota of processor time, in cores, and the group that has it."""
        quotas = [(group, quota) for group in self.of("cpu") if (quota := group.cpu_quota) is not None]
        return min(quotas, key=lambda pair: pair[1], default=None)

    @property
    def oom_kills(self) -> int | None:
        own = self.of("memory")
        return own[0].oom_kills if own else None

    def used_by(self, group: Group) -> float | None:
        """Seconds of processor time of a group of the controller ``cpu``; version 1 counts them in another tree."""
        if group.version == 2:
            return group.cpu_seconds
        above = self.of("cpu").index(group)
        accounts = self.of("cpuacct")
        return accounts[above].cpu_seconds if above < len(accounts) else None


@dataclass(frozen=True)
class _Tree:
    """One mounted tree: ``shown`` is the path in the tree that is at ``place``."""

    version: int
    controllers: frozenset[str]
    shown: str
    place: str

    def has(self, controllers: frozenset[str]) -> bool:
        """Whether a line of ``/proc/PID/cgroup`` with these means this tree; that of version 2 has none."""
        return bool(self.controllers & controllers) if controllers else self.version == 2

    def chain(self, path: str, root: Path, read: Read) -> list[Group]:
        """The group of this path and those above it, as far as they are shown. The top of a whole tree is no group: it is the
        machine."""
        own, top = PurePosixPath(path), PurePosixPath(self.shown)
        mounted = root / self.place.lstrip("/")
        folder = mounted / own.relative_to(top) if own.is_relative_to(top) and ".." not in own.parts else mounted
        # A container that was given its own tree may still be told the path that it has outside.
        folder = folder if folder.is_dir() else mounted
        above = [one for one in (folder, *folder.parents) if one.is_relative_to(mounted)]
        return [group for one in above if not (group := Group(one, self.version, read)).is_machine]


def _trees(mountinfo: str) -> Iterator[_Tree]:
    """proc_pid_mountinfo(5): ``36 35 98:0 /shown /place options … - type source super-options``."""
    for line in mountinfo.splitlines():
        mount, _, kind = line.partition(" - ")
        before, after = mount.split(), kind.split()
        if len(before) < 5 or len(after) < 3:
            continue
        shown, place = (before[at].replace("\\040", " ") for at in (3, 4))
        if after[0] == "cgroup2":
            yield _Tree(2, frozenset(), shown, place)
        elif after[0] == "cgroup":
            yield _Tree(1, frozenset(after[2].split(",")), shown, place)
