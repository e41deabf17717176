"""What a process tree used, against what the kernel and the processes themselves say."""

from __future__ import annotations

import mmap
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from looptap.resources import processes
from looptap.resources.process import ProcessReader
from looptap.resources.reader import Subject

pytestmark = pytest.mark.alone

#: Says when it has used so many seconds of its core, holds so many MiB, and waits for a line to end.
WORKER = """
import sys, time
kept = bytearray({mib} * 2**20)
for at in range(0, len(kept), 4096): kept[at] = 1
while time.process_time() < {seconds}: pass
print(time.process_time(), flush=True)
sys.stdin.readline()
"""


def worker(mib: int = 1, seconds: float = 0.0) -> subprocess.Popen[str]:
    code = WORKER.format(mib=mib, seconds=seconds)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", code], text=True, **pipes)  # type: ignore[call-overload, no-any-return]


def children_time() -> float:
    """Seconds of processor time of the children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.fixture
def reader() -> Iterator[ProcessReader]:
    """Of this process and its children."""
    opened = ProcessReader()
    opened.open(Subject(os.getpid(), os.getpid(), os.getcwd(), {}))
    yield opened
    opened.close()


def read_after(reader: ProcessReader, seconds: float, began: float) -> dict[str, float]:
    time.sleep(max(0.0, began + seconds - time.monotonic()))
    return reader.read(time.monotonic())


def test_memory_of_the_tree(reader: ProcessReader) -> None:
    """The sum of what each process says of itself, within 2 %; what the child has alone is in the unique memory."""
    before = reader.read(time.monotonic())
    assert "system.process.cpu" not in before
    with worker(mib=200) as child:
        assert child.stdout is not None
        child.stdout.readline()
        found = ProcessReader()
        found.open(Subject(os.getpid(), os.getpid(), os.getcwd(), {}))
        values = found.read(time.monotonic())
        expected = sum(one.memory_info().rss for one in (psutil.Process(), psutil.Process(child.pid)))
        child.communicate("\n")
    assert values["system.process.memory"] == pytest.approx(expected, rel=0.02)
    assert values["system.process.processes"] == before["system.process.processes"] + 1
    more = values["system.process.memory_unique"] - before["system.process.memory_unique"]
    assert 200 * 2**20 <= more < 240 * 2**20


def test_processor_time_of_a_child_that_has_ended(reader: ProcessReader) -> None:
    """All that it used counts, its own end included, within 2 % of what the kernel gives to whoever waited for it; the rate is
    over the time between the samples."""
    began = time.monotonic()
    first = reader.read(began)
    own, children = time.process_time(), children_time()
    with worker(seconds=1.0) as child:
        said = float(child.communicate("\n")[0])
    now = time.monotonic()
    values = reader.read(now)
    own, children = time.process_time() - own, children_time() - children
    assert "system.process.cpu" not in first
    assert children >= said
    # The counters of the kernel are hundredths of a second.
    told = values["system.process.cpu"] / 100 * (now - began)
    assert told == pytest.approx(children + own, rel=0.02, abs=0.03)
    assert values["system.process.cpu_share"] == pytest.approx(
        values["system.process.cpu"] / len(os.sched_getaffinity(0))
    )


def test_a_child_that_is_not_waited_for_makes_no_negative_rate(reader: ProcessReader) -> None:
    """A worker is killed and somebody else takes it in: what it used is gone from the sums, and no rate is below zero."""
    nested = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {WORKER.format(mib=1, seconds=0.6)!r}], stdin=subprocess.PIPE)\n"
        "sys.stdin.readline()\n"
        "child.kill()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", nested], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        reader.read(time.monotonic())
        began = time.monotonic()
        parent.communicate("\n")
        values = read_after(reader, 0.2, began)
    assert all(value >= 0 for value in values.values())
    assert "system.process.cpu" in values


def test_disk_and_switches(reader: ProcessReader, tmp_path: object) -> None:
    """What was written is told within 2 %; a wait is a switch of context."""
    began = time.monotonic()
    reader.read(began)
    with open(f"{tmp_path}/written", "wb", buffering=0) as file:
        file.write(os.urandom(32 * 2**20))
        os.fsync(file.fileno())
    for _ in range(50):
        time.sleep(0.001)
    values = reader.read(began + 10)
    assert values["system.process.write_rate"] * 10 == pytest.approx(32 * 2**20, rel=0.02)
    assert values["system.process.context_switches_rate"] * 10 >= 50
    assert values["system.process.involuntary_switches_rate"] >= 0


def test_details_are_read_every_five_seconds(reader: ProcessReader) -> None:
    """A file that is open is counted, and one that was opened since is counted when its time has come; swap likewise."""
    names = {f"system.process.{name}" for name in ("open_files", "memory_swap", "memory_mapped")}
    first = reader.read(100.0)
    with open(os.devnull):
        assert not names & reader.read(104.9).keys()
        later = reader.read(105.1)
    assert later["system.process.open_files"] == first["system.process.open_files"] + 1
    assert later["system.process.memory_swap"] == psutil.Process().memory_full_info().swap


def test_mapped_files_are_told_from_other_memory(reader: ProcessReader, tmp_path: Path) -> None:
    size = 64 << 20
    (tmp_path / "data").write_bytes(bytes(size))
    before = reader.read(100.0)["system.process.memory_mapped"]
    with open(tmp_path / "data", "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert mapped.find(b"1") == -1  # touches all of it
        assert reader.read(110.0)["system.process.memory_mapped"] - before == pytest.approx(size, rel=0.02)
        kept = bytearray(size)
        kept[::4096] = b"1" * (size // 4096)
        assert reader.read(120.0)["system.process.memory_mapped"] - before == pytest.approx(size, rel=0.02)


def test_what_stays_open_is_bounded_and_given_back(reader: ProcessReader) -> None:
    """Of a large tree no more than 32 files stay open, of processes that have ended none, and none when the reader is closed."""
    before = os.listdir("/proc/self/fd")
    children = [subprocess.Popen(["sleep", "600"]) for _ in range(40)]
    reader.read(1.0)
    assert len(os.listdir("/proc/self/fd")) - len(before) == 32
    for child in children:
        child.kill()
        child.wait()
    reader.read(2.0)
    assert len(os.listdir("/proc/self/fd")) - len(before) == 3
    reader.close()
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_too_soon_is_no_rate(reader: ProcessReader) -> None:
    """Between two samples that follow each other at once, the kernel's hundredths of a second would be thousands of percent. The
    next rate is then over the time from the first of them."""
    began = time.monotonic()
    reader.read(began)
    assert "system.process.cpu" not in reader.read(began + 0.01)
    assert "system.process.cpu" in reader.read(began + 1.0)


def test_five_hundred_children() -> None:
    """All of them are found, and some end between being listed and being read."""
    children = [subprocess.Popen(["sleep", "600"]) for _ in range(500)]
    try:
        listed = processes.Tree(os.getpid()).pids(0.0)
        assert {child.pid for child in children} <= set(listed)
        for child in children[:100]:
            child.kill()
            child.wait()
        left = {usage.pid for usage in processes.usages(listed)}
        assert left >= {child.pid for child in children[100:]}
        assert not left & {child.pid for child in children[:100]}
    finally:
        for child in children[100:]:
            child.kill()
        for child in children:
            child.wait()


def test_a_child_that_nobody_has_waited_for() -> None:
    """It has ended: it counts for nothing, though the kernel still lists it."""
    child = subprocess.Popen(["true"])
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.001)
    assert child.pid in processes.Tree(os.getpid()).pids(0.0)
    assert processes.usages([child.pid]) == []
    child.wait()


def test_what_is_dear_is_read_more_seldom(reader: ProcessReader, monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory that is the program's own takes the kernel long to tell, of a large program: a twentieth of a percent of the
    time at most."""

    def dear(pid: int) -> int:
        until = time.thread_time() + 0.05
        while time.thread_time() < until:
            pass
        return 1

    monkeypatch.setattr(processes, "unique_memory", dear)
    told = {at for at in (1.0, 40.0, 90.0, 2_000.0) if "system.process.memory_unique" in reader.read(at)}
    assert told == {1.0, 2_000.0}


def test_grandchildren_are_of_the_tree() -> None:
    """Workers start processes, too."""
    code = "import subprocess, sys; subprocess.Popen(['sleep', '600']); print('up', flush=True); sys.stdin.readline()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        (grandchild,) = processes.Tree(child.pid).pids(0.0)[1:]
        assert psutil.Process(grandchild).name() == "sleep"
        psutil.Process(grandchild).kill()
        child.communicate("\n")


def test_children_of_other_threads() -> None:
    """The main thread is asked each time, the others every ten seconds; those that had children then are asked each time, too."""
    tree = processes.Tree(os.getpid())
    started: list[subprocess.Popen[bytes]] = []
    go, over = threading.Semaphore(0), threading.Event()

    def start_twice() -> None:
        for _ in range(2):
            go.acquire()
            started.append(subprocess.Popen(["sleep", "600"]))
        over.wait()

    def start_one() -> int:
        count = len(started)
        go.release()
        while len(started) == count:
            time.sleep(0.001)
        return started[-1].pid

    thread = threading.Thread(target=start_twice)
    thread.start()
    before = tree.pids(100.0)
    first = start_one()
    assert tree.pids(105.0) == before
    assert first in tree.pids(110.0)
    second = start_one()
    assert {first, second} <= set(tree.pids(111.0))
    for child in started:
        child.kill()
        child.wait()
    over.set()
    thread.join()


def test_psutil_says_the_same() -> None:
    """Where there is no /proc, the same figures come from psutil."""
    with worker(mib=50, seconds=0.3) as child:
        assert child.stdout is not None
        child.stdout.readline()
        (ours,) = processes.usages([child.pid])
        theirs = processes._from_psutil(child.pid)
        our_details, their_details = processes.details(child.pid), processes._details_by_psutil(child.pid)
        child.communicate("\n")
    assert theirs is not None
    assert (theirs.cpu, theirs.threads, theirs.memory) == pytest.approx((ours.cpu, ours.threads, ours.memory), rel=0.02)
    assert (theirs.read, theirs.written) == (ours.read, ours.written)
    assert their_details == our_details._replace(swap=None, mapped=None)
    assert processes._from_psutil(child.pid) is None
    assert processes.usages([child.pid]) == []
    assert processes.details(child.pid) == processes._details_by_psutil(child.pid) == processes.Details()
