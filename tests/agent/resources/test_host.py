"""The machine, against what ``/proc`` and psutil say of it."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path

import psutil
import pytest

from looptap.resources import machine
from looptap.resources.host import HostReader
from looptap.resources.kernel_files import KernelFiles
from looptap.resources.reader import Subject


def reader(folder: Path) -> HostReader:
    opened = HostReader()
    opened.open(Subject(1, 1, str(folder), {}))
    return opened


def meminfo(name: str) -> int:
    line = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def test_memory_and_disk(tmp_path: Path) -> None:
    """Within 2 % of what the kernel's own files say; the disk is that of the working directory."""
    values = reader(tmp_path).read(time.monotonic())
    assert values["system.memory.total"] == meminfo("MemTotal")
    assert values["system.memory.available"] == pytest.approx(meminfo("MemAvailable"), rel=0.02)
    assert values["system.memory.used"] == pytest.approx(meminfo("MemTotal") - meminfo("MemAvailable"), rel=0.02)
    assert values["system.swap.used"] == pytest.approx(meminfo("SwapTotal") - meminfo("SwapFree"), abs=2**20)
    told = os.statvfs(tmp_path)
    assert values["system.disk.free"] == pytest.approx(told.f_bavail * told.f_frsize, rel=0.02)
    assert not any("rate" in name or "utilization" in name for name in values)


def test_the_disk_is_looked_at_every_five_seconds(tmp_path: Path) -> None:
    """Memory each time."""
    opened = reader(tmp_path)
    opened.read(100.0)
    soon, later = opened.read(104.9), opened.read(105.0)
    assert "system.disk.free" not in soon
    assert "system.disk.free" in later
    assert "system.memory.used" in soon


def test_processors(tmp_path: Path) -> None:
    """The mean over the cores within 2 % of what ``/proc/stat`` grew by, with a core kept busy."""

    def stat() -> tuple[float, float]:
        numbers = [int(word) for word in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
        return sum(numbers) - numbers[3] - numbers[4], sum(numbers)

    over = threading.Event()
    busy = threading.Thread(target=lambda: [None for _ in iter(over.is_set, True)])
    busy.start()
    opened = reader(tmp_path)
    outer = stat()
    opened.read(time.monotonic())
    inner = stat()
    time.sleep(2.0)
    told = stat()
    values = opened.read(time.monotonic())
    ended = stat()
    over.set()
    busy.join()
    # It lies between the two, however long a busy machine kept us from the next line.
    shares = [100 * (later[0] - at[0]) / (later[1] - at[1]) for at, later in ((inner, told), (outer, ended))]
    assert 0.98 * min(shares) - 0.5 <= values["system.cpu.utilization"] <= 1.02 * max(shares) + 0.5
    assert values["system.cpu.utilization"] <= values["system.cpu.busiest"] <= 100


def test_traffic(tmp_path: Path) -> None:
    """Disks and network cards have moved as much as psutil says; what goes over the loopback is no traffic."""
    received, sent = socket.socketpair()
    sent.sendall(b"x" * 1000)
    received.recv(1000)
    cards = {name: card for name, card in psutil.net_io_counters(pernic=True).items() if name != "lo"}
    network = machine.network_traffic()
    if not cards:
        assert network is None
    else:
        assert network is not None
        assert network.incoming == pytest.approx(sum(card.bytes_recv for card in cards.values()), rel=0.02)
    names = machine.disks()
    disks = machine.disk_traffic(names)
    if not names:
        pytest.skip("no disk of this machine's own")
    assert disks is not None
    told = psutil.disk_io_counters(perdisk=True)
    assert disks.outgoing == pytest.approx(sum(told[name].write_bytes for name in names if name in told), rel=0.02)


def test_what_a_core_has_done() -> None:
    """Time in which it waited for a disk is idle time, and that of guests is in the user's already (proc_stat(5))."""
    told = b"cpu  1 1 1 1 1 1 1 1 1 1\ncpu0 10 1 2 50 7 3 4 5 6 1\ncpu12 0 0 0 9 0 0 0 0 0 0\nintr 12345\n"
    assert machine.cores(lambda path: told) == [(25, 82), (0, 9)]


def test_swap(tmp_path: Path) -> None:
    """Where there is swap space its traffic is read each time, in bytes; without any it stands still."""
    counters = {"total": 0, "in": 5}

    class Told(KernelFiles):
        def content(self, path: str) -> bytes:
            if path == "/proc/meminfo":
                swap = f"SwapTotal: {counters['total']} kB\nSwapFree: {counters['total'] // 2} kB\n"
                return f"MemTotal: 100 kB\nMemAvailable: 60 kB\n{swap}".encode()
            if path == "/proc/vmstat":
                return f"nr_free 1\npswpin {counters['in']}\npswpout 7\n".encode()
            return super().content(path)

    opened = reader(tmp_path)
    opened._kept = Told(5)
    opened.read(1.0)
    counters["in"] = 9
    values = opened.read(2.0)
    assert (values["system.swap.in_rate"], values["system.swap.used"]) == (0, 0)
    counters["total"] = 8
    assert opened.read(3.0)["system.swap.in_rate"] == 4 * os.sysconf("SC_PAGE_SIZE")
    counters["in"] = 10
    values = opened.read(5.0)
    assert values["system.swap.in_rate"] == os.sysconf("SC_PAGE_SIZE") / 2
    assert (values["system.swap.out_rate"], values["system.swap.used"]) == (0, 4096)
    opened.close()


def test_the_working_directory_is_gone(tmp_path: Path) -> None:
    """Its disk is missing, all else is there."""
    folder = tmp_path / "gone"
    folder.mkdir()
    opened = reader(folder)
    folder.rmdir()
    values = opened.read(time.monotonic())
    assert "system.memory.used" in values
    assert "system.disk.free" not in values


def test_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no /proc, psutil gives the same figures."""
    here = reader(tmp_path).read(time.monotonic())
    monkeypatch.setattr(machine, "_IS_LINUX", False)
    there = reader(tmp_path).read(time.monotonic())
    assert there.keys() == here.keys()
    assert there["system.memory.used"] == pytest.approx(here["system.memory.used"], rel=0.02)
