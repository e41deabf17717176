"""Control groups of both versions as they are met in containers, and real ones with a real lack of memory."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from agent.resources.scenes import (
    CPU_V1,
    CPU_V2,
    MEMORY_V1,
    MEMORY_V2,
    NO_LIMIT_V1,
    UNIFIED,
    V1,
    V2,
    machine,
    real_group,
    v2_group,
)
from looptap.resources import cpus, lack_of_memory
from looptap.resources.allotment import AllotmentReader
from looptap.resources.cgroups import Groups
from looptap.resources.container import ContainerReader
from looptap.resources.reader import Absent, Subject
from programs import Programs

HERE = Subject(1, 1, "/", {})


def reader_of(root: Path) -> ContainerReader:
    reader = ContainerReader(Groups(root=root))
    reader.open(HERE)
    return reader


def limits(root: Path) -> dict[str, Any]:
    """What the run was given, as far as the groups say."""
    reader = AllotmentReader(root)
    reader.open(HERE)
    return {key: value for key, value in reader.allotted().items() if key in ("allotted.memory", "allotted.cpu_quota")}


def test_version_2_in_a_namespace(tmp_path: Path) -> None:
    """The container sees its own group as the top of the tree; everything in it is its own."""
    files = v2_group(**MEMORY_V2, **CPU_V2)
    reader = reader_of(machine(tmp_path, V2.format(shown="/"), "0::/\n", {"": files}))
    assert limits(tmp_path) == {"allotted.memory": 2**31, "allotted.cpu_quota": 2.5}
    assert reader.read(10.0) == {
        "system.container.memory": 1_000_000_000,
        "system.container.memory_percent": pytest.approx(100 * 1e9 / 2**31),
        "system.container.memory_pressure": 1.5,
        "system.container.cpu_pressure": 20.0,
        "system.container.oom_kills": 2.0,
    }
    stat = (
        CPU_V2["cpu.stat"].replace("5000000", "7500000").replace("periods 100", "periods 120").replace("d 40", "d 50")
    )
    (tmp_path / "sys/fs/cgroup/cpu.stat").write_text(stat)
    values = reader.read(12.0)
    assert values["system.container.cpu"] == pytest.approx(50.0)
    assert values["system.container.cpu_throttled"] == 50.0
    # The kernel's means of ten seconds are read every five.
    assert "system.container.cpu_pressure" not in values
    assert reader.read(15.0)["system.container.cpu_pressure"] == 20.0


def test_version_1_without_a_namespace(tmp_path: Path) -> None:
    """Docker of old: the path is that of the machine, and the part of the tree that is mounted begins there."""
    shown = "/docker/0123"
    membership = f"5:memory:{shown}\n4:cpu,cpuacct:{shown}\n1:name=systemd:{shown}\n"
    groups = {"memory": MEMORY_V1, "cpu,cpuacct": CPU_V1}
    reader = reader_of(machine(tmp_path, V1.format(shown=shown), membership, groups))
    assert limits(tmp_path) == {"allotted.memory": 2**31, "allotted.cpu_quota": 2.5}
    assert reader.read(10.0) == {
        "system.container.memory": 1_000_000_000,
        "system.container.memory_percent": pytest.approx(100 * 1e9 / 2**31),
        "system.container.oom_kills": 2.0,
    }
    (tmp_path / "sys/fs/cgroup/cpu,cpuacct/cpuacct.usage").write_text("10000000000\n")
    assert reader.read(12.0)["system.container.cpu"] == pytest.approx(100.0)


def test_a_group_that_was_made_anew(tmp_path: Path) -> None:
    """Its counters begin again: no rate below zero."""
    files = v2_group(**MEMORY_V2, **CPU_V2)
    reader = reader_of(machine(tmp_path, V2.format(shown="/"), "0::/\n", {"": files}))
    reader.read(10.0)
    stat = "usage_usec 1000\nnr_periods 110\nnr_throttled 2\n"
    (tmp_path / "sys/fs/cgroup/cpu.stat").write_text(stat)
    values = reader.read(12.0)
    assert values["system.container.cpu_throttled"] == 0
    assert "system.container.cpu" not in values


def test_version_1_says_no_limit_by_a_number(tmp_path: Path) -> None:
    files = {**MEMORY_V1, "memory.limit_in_bytes": f"{NO_LIMIT_V1}\n"}
    groups = {"memory/docker": files}
    root = machine(tmp_path, V1.format(shown="/"), "5:memory:/docker\n", groups)
    assert "system.container.memory_percent" not in reader_of(root).read(10.0)
    assert limits(root)["allotted.memory"] == psutil.virtual_memory().total


def test_hybrid(tmp_path: Path) -> None:
    """Version 1 has the controllers, version 2 only tells pressure."""
    membership = "5:memory:/box/job\n4:cpu,cpuacct:/box/job\n0::/box/job\n"
    groups = {
        "memory/box/job": MEMORY_V1,
        "memory": {"release_agent": "", "memory.limit_in_bytes": NO_LIMIT_V1},
        "cpu,cpuacct/box/job": CPU_V1,
        "unified/box/job": v2_group("", **{"memory.pressure": "some avg10=3.00 avg60=0\n"}),
    }
    reader = reader_of(machine(tmp_path, V1.format(shown="/") + UNIFIED, membership, groups))
    values = reader.read(10.0)
    assert values["system.container.memory"] == 1_000_000_000
    assert values["system.container.memory_pressure"] == 3.0
    assert limits(tmp_path) == {"allotted.memory": 2**31, "allotted.cpu_quota": 2.5}


@pytest.mark.parametrize("version", [1, 2])
def test_the_tightest_of_nested_limits(tmp_path: Path, version: int) -> None:
    """A pod has less than its container may use alone: the pod's limit counts, and what all in the pod use of it."""
    membership = "0::/pod/job\n" if version == 2 else "5:memory:/pod/job\n4:cpu,cpuacct:/pod/job\n"
    if version == 2:
        pod = v2_group(**MEMORY_V2, **CPU_V2)
        job = v2_group(
            **{**MEMORY_V2, "memory.max": "max\n", "memory.current": "600000000\n"}, **{"cpu.max": "max 100000\n"}
        )
        groups = {"pod": pod, "pod/job": job, "": {"cgroup.controllers": "cpu memory\n"}}
        root = machine(tmp_path, V2.format(shown="/"), membership, groups)
    else:
        loose = {**MEMORY_V1, "memory.limit_in_bytes": "4294967296\n", "memory.usage_in_bytes": "600000000\n"}
        groups = {
            "memory/pod": MEMORY_V1,
            "memory/pod/job": loose,
            "memory": {"release_agent": "", **loose, "memory.limit_in_bytes": "1\n"},
            "cpu,cpuacct/pod": CPU_V1,
            "cpu,cpuacct/pod/job": {**CPU_V1, "cpu.cfs_quota_us": "-1\n"},
        }
        root = machine(tmp_path, V1.format(shown="/"), membership, groups)
    reader = reader_of(root)
    assert limits(tmp_path) == {"allotted.memory": 2**31, "allotted.cpu_quota": 2.5}
    assert reader.read(10.0)["system.container.memory"] == 1_000_000_000


def test_quota_and_affinity(tmp_path: Path) -> None:
    """The cores that count are those of the quota, and never more than there are."""
    few = v2_group(**{**CPU_V2, "cpu.max": "50000 100000\n"})
    assert cpus.allowed(Groups(root=machine(tmp_path / "a", V2.format(shown="/"), "0::/\n", {"": few}))) == 0.5
    many = v2_group(**{**CPU_V2, "cpu.max": "99900000 100000\n"})
    root = machine(tmp_path / "b", V2.format(shown="/"), "0::/\n", {"": many})
    assert cpus.allowed(Groups(root=root)) == cpus.affinity()


@pytest.mark.parametrize(
    ("mountinfo", "membership", "groups"),
    [
        ("", "", {}),
        ("broken line - cgroup2\n", "no colons\n", {}),
        (V2.format(shown="/"), "0::/\n", {"": {"cgroup.controllers": "cpu memory\n", **CPU_V2}}),
        (
            V1.format(shown="/"),
            "5:memory:/\n4:cpu,cpuacct:/\n",
            {"memory": {"release_agent": "", **MEMORY_V1}, "cpu,cpuacct": {"release_agent": "", **CPU_V1}},
        ),
    ],
    ids=["none", "unreadable", "the machine itself, version 2", "the machine itself, version 1"],
)
def test_no_container(tmp_path: Path, mountinfo: str, membership: str, groups: dict[str, dict[str, str]]) -> None:
    """A process of the machine itself is in no container, and what is broken is none."""
    with pytest.raises(Absent):
        reader_of(machine(tmp_path, mountinfo, membership, groups))


def test_files_that_are_missing_are_missing_values(tmp_path: Path) -> None:
    """An old kernel has no pressure, no count of kills and no limit: nothing is made up for them."""
    files = v2_group("memory", **{"memory.current": "5000\n", "memory.max": "max\n"})
    reader = reader_of(machine(tmp_path, V2.format(shown="/"), "0::/../../elsewhere\n", {"": files}))
    assert limits(tmp_path) == {"allotted.memory": psutil.virtual_memory().total}
    assert reader.read(10.0) == {"system.container.memory": 5000.0}


def test_killed_for_lack_of_memory_is_only_told_when_it_is_known(tmp_path: Path) -> None:
    """One more kill since the last sample is the reason; no count of before, none of now, or the same count are none."""
    root = machine(tmp_path, V2.format(shown="/"), "0::/\n", {"": v2_group(**MEMORY_V2)})
    groups = Groups(root=root)
    why = lack_of_memory.found("0::/\n", {lack_of_memory.KILLS: 1.0}, groups)
    assert why == "out of memory; the kernel has killed 1 of the processes in its container, which may use 2,048 MiB"
    for membership, samples in (
        ("0::/\n", {}),
        ("0::/\n", {lack_of_memory.KILLS: 2.0}),
        ("", {lack_of_memory.KILLS: 1.0}),
    ):
        assert lack_of_memory.found(membership, samples, groups) is None
    assert lack_of_memory.found("0::/\n", {lack_of_memory.KILLS: 0.0}, Groups(root=tmp_path / "gone")) is None


@pytest.fixture
def group() -> Iterator[Path]:
    try:
        with real_group(megabytes=250) as folder:
            yield folder
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")


def inside(group: Path, *words: str) -> list[str]:
    return ["sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh", *words]


def test_real_group(group: Path) -> None:
    """What the reader says of a process in a group is what the files of the group say, within 2 %."""
    code = (
        "kept = bytearray(100 * 2**20)\nfor at in range(0, len(kept), 4096): kept[at] = 1\nprint(flush=True); input()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(inside(group, sys.executable, "-c", code), text=True, **pipes) as child:  # type: ignore[call-overload]
        child.stdout.readline()
        reader = ContainerReader(Groups(Path(f"/proc/{child.pid}/cgroup").read_text()))
        reader.open(HERE)
        values = reader.read(time.monotonic())
        memory = psutil.Process(child.pid).memory_info()
        child.communicate("\n")
    assert values["system.container.memory_percent"] == pytest.approx(
        100 * values["system.container.memory"] / (250 * 2**20)
    )
    assert values["system.container.memory"] == pytest.approx(memory.rss - memory.shared, rel=0.02, abs=2 * 2**20)
    assert values["system.container.oom_kills"] == 0


def test_a_run_that_the_kernel_kills_says_why(programs: Programs, group: Path) -> None:
    """A program that takes more memory than its container has is killed. Whoever finds its journal stores the run as killed, with
    the reason."""
    script = programs.script(
        """
        import looptap, time
        looptap.autolog()
        looptap.log_metric("loss", 1.0)
        time.sleep(1.5)
        kept = []
        while True:
            kept.append(b"x" * 2**23)
        """
    )
    done = programs.command(inside(group, sys.executable, str(script)), LOOPTAP_RESOURCES="1")
    assert done.returncode in (-9, 137)
    run = programs.record()["run"]
    assert run["status"] == "killed"
    assert run["error"].endswith(
        "out of memory; the kernel has killed 1 of the processes in its container, which may use 250 MiB"
    )


def test_a_run_that_somebody_kills_is_not_said_to_lack_memory(programs: Programs, group: Path) -> None:
    """The same container, and a kill from outside: no reason is made up."""
    script = programs.script(
        """
        import looptap, os, signal, time
        looptap.autolog()
        looptap.log_metric("loss", 1.0)
        time.sleep(1.5)
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    done = programs.command(inside(group, sys.executable, str(script)), LOOPTAP_RESOURCES="1")
    assert done.returncode in (-9, 137)
    run = programs.record()["run"]
    assert (run["status"], run["error"]) == ("killed", "process ended without saying so")
