"""Control groups to read: folders that look like ``/`` of a machine, and real ones."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

V2 = "30 23 0:26 {shown} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
UNIFIED = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
V1 = (
    "32 31 0:29 {shown} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 {shown} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n"
)
#: What the kernel writes where there is no limit.
NO_LIMIT_V1 = "9223372036854771712"

MEMORY_V2 = {
    "memory.current": "1073741824\n",
    "memory.max": "2147483648\n",
    "memory.stat": "anon 800000000\nfile 300000000\ninactive_file 73741824\n",
    "memory.events": "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n",
    "memory.pressure": "some avg10=1.50 avg60=0.00 avg300=0.00 total=5\nfull avg10=0.10 avg60=0.00 avg300=0.00 total=1\n",
}
CPU_V2 = {
    "cpu.max": "250000 100000\n",
    "cpu.stat": "usage_usec 5000000\nuser_usec 4000000\nsystem_usec 1\nnr_periods 100\nnr_throttled 40\nthrottled_usec 9\n",
    "cpu.pressure": "some avg10=20.00 avg60=0.00 avg300=0.00 total=5\n",
}
MEMORY_V1 = {
    "memory.usage_in_bytes": "1073741824\n",
    "memory.limit_in_bytes": "2147483648\n",
    "memory.stat": "cache 5\ntotal_cache 6\ninactive_file 7\ntotal_inactive_file 73741824\n",
    "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
}
CPU_V1 = {
    "cpu.cfs_quota_us": "250000\n",
    "cpu.cfs_period_us": "100000\n",
    "cpu.stat": "nr_periods 100\nnr_throttled 40\nthrottled_time 900000\n",
    "cpuacct.usage": "5000000000\n",
}


def machine(root: Path, mountinfo: str, membership: str, groups: Mapping[str, Mapping[str, str]]) -> Path:
    """A folder that stands for ``/``. ``groups``: the files of each group by its path below ``/sys/fs/cgroup``."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/mountinfo").write_text("22 1 8:1 / / rw - ext4 /dev/sda1 rw\n" + mountinfo)
    (root / "proc/self/cgroup").write_text(membership)
    for path, files in groups.items():
        folder = root / "sys/fs/cgroup" / path
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text)
    return root


def v2_group(controllers: str = "cpuset cpu io memory pids", **files: str) -> dict[str, str]:
    """Files of a group that is not the top of the tree."""
    return {"cgroup.controllers": f"{controllers}\n", "cgroup.type": "domain\n", **files}


@contextmanager
def real_group(megabytes: int) -> Iterator[Path]:
    """The folder of a control group with this limit of memory, made for this test. Raises OSError where that is not allowed."""
    name = f"looptap-test-{os.getpid()}"
    top = Path("/sys/fs/cgroup")
    if "memory" in _controllers(top):
        folder, limit, swap = top / name, "memory.max", "memory.swap.max"
    else:
        folder, limit, swap = top / "memory" / name, "memory.limit_in_bytes", "memory.swappiness"
    folder.mkdir()
    try:
        (folder / limit).write_text(str(megabytes * 2**20))
        if (folder / swap).exists():
            (folder / swap).write_text("0")
        yield folder
    finally:
        for pid in (folder / "cgroup.procs").read_text().split():
            os.kill(int(pid), 9)
        _remove(folder)


def _controllers(top: Path) -> list[str]:
    """Of version 2, those that groups below the top have."""
    path = top / "cgroup.subtree_control"
    return path.read_text().split() if path.exists() else []


def _remove(folder: Path) -> None:
    for _ in range(200):
        try:
            folder.rmdir()
            return
        except OSError:  # a process is on its way out
            time.sleep(0.02)
