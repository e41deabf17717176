"""Memory and disks that fill, GPUs that wait."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from looptap.alerts.latch import Change
from looptap.alerts.machine import (
    BUSY_SECONDS,
    IDLE_SECONDS,
    Filling,
    IdleDevices,
    disk,
    memory_of_container,
    memory_of_host,
)


def changes(filling: Filling, values: list[tuple[float, float]]) -> list[Change]:
    return [change for time, percent in values if (change := filling.see(percent, time)) is not None]


@pytest.mark.parametrize(
    ("make", "full", "clear"), [(memory_of_container, 95, 90), (memory_of_host, 95, 90), (disk, 98, 95)]
)
def test_nearly_full(make: Callable[[str], Filling], full: float, clear: float) -> None:
    """Fires at its threshold, and has recovered after half a minute clearly below."""
    filling = make("k")
    before = [(float(time * 100), full - 0.1) for time in range(5)]
    assert changes(filling, before) == []
    (change,) = changes(filling, [(500, full), (501, full - 1), (502, full + 1)])
    assert (change.state, change.severity, change.value, change.threshold) == ("fired", "critical", full, full)
    assert f"is {full:.1f} % full" in change.message
    assert changes(filling, [(510, clear - 1), (530, clear - 1), (535, clear), (540, clear - 1)]) == []
    assert [one.state for one in changes(filling, [(571, clear - 1)])] == ["recovered"]


def test_room_enough_in_bytes() -> None:
    """Two percent of a large disk are a lot: full is what has less than ten gigabytes left as well, and what gets them back is
    over."""
    filling = disk("k")
    filling.room = 11 * 2**30
    assert changes(filling, [(0, 99.0), (1, 99.5)]) == []
    filling.room = 9 * 2**30
    assert [one.state for one in changes(filling, [(2, 99.0), (3, 99.0)])] == ["fired"]
    filling.room = 11 * 2**30
    assert [one.state for one in changes(filling, [(4, 98.5), (35, 98.5)])] == ["recovered"]


def test_about_to_be_full() -> None:
    """At the rate of the last minute it would be full in two; told with how long it has."""
    rising = [(float(second), 50 + second / 2) for second in range(100)]
    (change,) = changes(memory_of_container("k"), rising)
    assert change.value == pytest.approx(80)
    assert change.message == "the memory of the container is 80.0 % full, and would be full in 40 s at this rate"


@pytest.mark.parametrize(
    "values",
    [
        [(float(second), 80 + second / 100) for second in range(600)],  # 20 % in half an hour
        [(float(second), 20 + second / 2) for second in range(100)],  # fast, and far from full
        [(float(second), 94.9 - second / 100) for second in range(600)],
        [(second, 80 + 10 * (second > 15)) for second in map(float, range(25))],  # not looked at for long enough
        [(0.0, 40.0), (3_600.0, 94.0), (3_601.0, 94.0)],  # the machine slept: nobody knows how fast that was
    ],
)
def test_room_enough(values: list[tuple[float, float]]) -> None:
    assert changes(memory_of_host("k"), values) == []


def watched(devices: IdleDevices, device: str, percent: float, start: float, seconds: float) -> list[Change]:
    times = [start + second for second in range(0, int(seconds) + 1, 5)]
    return [change for time in times if (change := devices.see(device, percent, time)) is not None]


def test_a_gpu_that_waits() -> None:
    """Five minutes below five percent, after it was used; it recovers by half a minute of work."""
    devices = IdleDevices()
    assert watched(devices, "0", 80, 0, 60) == []
    assert watched(devices, "0", 4, 65, IDLE_SECONDS - 5) == []
    (change,) = watched(devices, "0", 4, 65 + IDLE_SECONDS, 1_000)
    assert (change.state, change.severity, change.key) == ("fired", "warning", "system.gpu.0.utilization")
    assert change.message == "GPU 0 has been idle for 5 minutes (below 5 %)"
    assert watched(devices, "0", 10, 2_000, 500) == []
    assert watched(devices, "0", 30, 2_505, BUSY_SECONDS - 5) == []
    assert [one.state for one in watched(devices, "0", 30, 2_505 + BUSY_SECONDS, 10)] == ["recovered"]


def test_a_gpu_at_work() -> None:
    """A look of work now and then is enough."""
    devices = IdleDevices()
    for minute in range(20):
        assert watched(devices, "0", 0, minute * 60, 50) == []
        assert devices.see("0", 50, minute * 60 + 55) is None


def test_a_gpu_of_others() -> None:
    """One that this run does not use is none of its business, unless it uses none at all; then one speaks for all."""
    devices = IdleDevices()
    devices.uses("1")
    assert watched(devices, "0", 0, 0, 1_000) == []
    assert len(watched(devices, "1", 0, 0, 1_000)) == 1
    unused = IdleDevices()
    found = [
        change
        for time in range(0, 1_000, 5)
        for device in ("0", "1")
        if (change := unused.see(device, 0, time)) is not None
    ]
    assert [change.message for change in found] == ["no GPU is used: 2 that this run sees, idle for 5 minutes"]


def test_a_gap_is_no_idleness() -> None:
    """What was between two samples far apart nobody knows."""
    devices = IdleDevices()
    devices.uses("0")
    assert [devices.see("0", 0, time) for time in (0.0, 200.0, 400.0, 600.0)] == [None] * 4
