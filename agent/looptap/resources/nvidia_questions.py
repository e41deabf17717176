"""What NVML is asked about one GPU or MIG instance, and what the answers mean.

A question gives names and values of one call or two. What it raises (an NVMLError) is the reader's business. Units of NVML:
milliwatts, millijoules since the driver was loaded, MHz, KiB.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeAlias

from looptap.resources.gpu_metrics import Energy
from looptap.resources.rates import Rates
from looptap.resources.visible import Place

Answer: TypeAlias = Mapping[str, "float | None"]

_SM, _MEMORY = 1, 2
_SENT, _RECEIVED = 0, 1
_POWER_CAP, _POWER_BRAKE = 0x04, 0x80
_SLOWDOWN, _SYNC_BOOST = 0x08, 0x10
_HEAT = 0x20 | 0x40
#: Fields NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX and _RX, over all links.
_NVLINK_SENT, _NVLINK_RECEIVED, _ALL_LINKS = 138, 139, 0xFFFFFFFF
#: Of the namespace that the whole machine's processes are numbered in (include/linux/proc_ns.h).
_FIRST_NAMESPACE = 0xEFFFFFFC


class Device:
    """One GPU, or one MIG instance, that the program sees."""

    def __init__(self, nvml: Any, handle: Any, place: Place) -> None:
        self.nvml = nvml
        self.handle = handle
        self.place = place
        self.address = self.address_of(handle)
        #: Those that it has answered so far.
        self.questions: list[Question] = list(QUESTIONS)
        #: The processes that use it, as far as the driver tells.
        self.users: list[Any] = []
        #: Their numbers at the sample before, and those of them that are of the run.
        self.known_users: set[int] = set()
        self.own_users: set[int] = set()
        self.milliwatts: int | None = None
        #: None where nobody counts them.
        self.xids: int | None = None
        self.rates = Rates()
        self.energy = Energy()

    @staticmethod
    def address_of(handle: Any) -> int | None:
        return ctypes.cast(handle, ctypes.c_void_p).value


Question: TypeAlias = Callable[[Device, float], Answer]


def _utilization(device: Device, now: float) -> Answer:
    return {"utilization": device.nvml.nvmlDeviceGetUtilizationRates(device.handle).gpu}


def _memory(device: Device, now: float) -> Answer:
    memory = device.nvml.nvmlDeviceGetMemoryInfo(device.handle)
    return {"memory_used": memory.used, "memory_percent": 100 * memory.used / memory.total if memory.total else None}


def _users(device: Device, now: float) -> Answer:
    device.users = []
    device.users = device.nvml.nvmlDeviceGetComputeRunningProcesses(device.handle)
    return {}


def _power(device: Device, now: float) -> Answer:
    device.milliwatts = None
    device.milliwatts = device.nvml.nvmlDeviceGetPowerUsage(device.handle)
    return {"power": device.milliwatts / 1000}


def _power_percent(device: Device, now: float) -> Answer:
    limit = device.nvml.nvmlDeviceGetEnforcedPowerLimit(device.handle)
    return {"power_percent": 100 * device.milliwatts / limit if limit and device.milliwatts is not None else None}


def _energy(device: Device, now: float) -> Answer:
    return {"energy": device.energy.since(device.nvml.nvmlDeviceGetTotalEnergyConsumption(device.handle) / 1000)}


def _temperature(device: Device, now: float) -> Answer:
    return {"temperature": device.nvml.nvmlDeviceGetTemperature(device.handle, 0)}


def _clock_sm(device: Device, now: float) -> Answer:
    return {"clock_sm": device.nvml.nvmlDeviceGetClockInfo(device.handle, _SM) * 1e6}


def _clock_memory(device: Device, now: float) -> Answer:
    return {"clock_memory": device.nvml.nvmlDeviceGetClockInfo(device.handle, _MEMORY) * 1e6}


def _throttled(device: Device, now: float) -> Answer:
    reasons = device.nvml.nvmlDeviceGetCurrentClocksThrottleReasons(device.handle)
    power, heat = bool(reasons & (_POWER_CAP | _POWER_BRAKE)), bool(reasons & _HEAT)
    # The hardware's slowdown comes with its reason, which is one of these two, where that is known.
    is_unexplained = bool(reasons & _SLOWDOWN) and not reasons & (_POWER_BRAKE | _HEAT)
    other = is_unexplained or bool(reasons & _SYNC_BOOST)
    return {"throttled_power": power, "throttled_heat": heat, "throttled_other": other}


def _pcie(device: Device, now: float) -> Answer:
    throughput = device.nvml.nvmlDeviceGetPcieThroughput
    return {
        "pcie_sent_rate": throughput(device.handle, _SENT) * 1024,
        "pcie_received_rate": throughput(device.handle, _RECEIVED) * 1024,
    }


def _nvlink(device: Device, now: float) -> Answer:
    wanted = [(_NVLINK_SENT, _ALL_LINKS), (_NVLINK_RECEIVED, _ALL_LINKS)]
    sent, received = device.nvml.nvmlDeviceGetFieldValues(device.handle, wanted)
    if sent.nvmlReturn or received.nvmlReturn:
        raise device.nvml.NVMLError(sent.nvmlReturn or received.nvmlReturn)
    return {
        "nvlink_sent_rate": device.rates.of("sent", sent.value.ullVal * 1024, now),
        "nvlink_received_rate": device.rates.of("received", received.value.ullVal * 1024, now),
    }


def _ecc(device: Device, now: float) -> Answer:
    corrected, uncorrected = (device.nvml.nvmlDeviceGetTotalEccErrors(device.handle, kind, 0) for kind in (0, 1))
    return {"ecc_corrected": corrected, "ecc_uncorrected": uncorrected}


def _xid(device: Device, now: float) -> Answer:
    return {"xid_errors": device.xids}


QUESTIONS: tuple[Question, ...] = (
    _utilization,
    _memory,
    _users,
    _power,
    _power_percent,
    _energy,
    _temperature,
    _clock_sm,
    _clock_memory,
    _throttled,
    _pcie,
    _nvlink,
    _ecc,
    _xid,
)


def owned_memory(users: Sequence[Any], pids: Collection[int]) -> float | None:
    """Bytes of those users of a device that are among ``pids``. None when none is, or when the driver numbers processes
    otherwise than this container does: then nobody can tell which are ours."""
    if not _numbers_are_those_of_the_machine() and not all(os.path.exists(f"/proc/{user.pid}") for user in users):
        return None
    own = [user.usedGpuMemory for user in users if user.pid in pids]
    known = [used for used in own if used is not None]
    return float(sum(known)) if known and len(known) == len(own) else None


def _numbers_are_those_of_the_machine() -> bool:
    try:
        return os.stat("/proc/self/ns/pid").st_ino == _FIRST_NAMESPACE
    except OSError:
        return False
