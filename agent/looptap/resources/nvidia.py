"""NVIDIA GPUs, by NVML: those that the program sees, under the numbers that the program has for them.

Each figure is a question of its own (:mod:`looptap.resources.nvidia_questions`). One that a device or its driver does not answer is
not asked again; a device that is lost is noted, and the others go on.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Any

from looptap.resources import processes
from looptap.resources.gpu_metrics import gpu_metrics
from looptap.resources.nvidia_questions import Device, Question, owned_memory
from looptap.resources.reader import Absent, Reader, Subject, Unreadable
from looptap.resources.visible import VARIABLE, Gpu, Place, names_one, visible

_COMPUTE_MODES = {0: "default", 1: "exclusive thread", 2: "prohibited", 3: "exclusive process"}
#: How near two GPUs are to each other; each level is the furthest that is passed.
_TOPOLOGY = {0: "same board", 10: "PCIe switch", 20: "PCIe switches", 30: "host bridge", 40: "NUMA node", 50: "system"}
_NVLINK = 2
_MIG_IS_ON = 1
_XID_CRITICAL = 8
_MOST_EVENTS = 1_000


class NvidiaReader(Reader):
    metrics = gpu_metrics()

    def __init__(self) -> None:
        self._nvml: Any = None
        self._events: Any = None
        self._devices: list[Device] = []

    def is_wanted(self, subject: Subject) -> bool:
        """One rank of a host tells of all GPUs that it sees; a rank that was given a GPU of its own tells of that."""
        return subject.is_first_on_host() or names_one(subject.environment.get(VARIABLE))

    def open(self, subject: Subject) -> None:
        # The module takes 20 ms to import, with the interpreter's lock: not on a machine that has no use for it.
        if "pynvml" not in sys.modules and not _has_driver():
            raise Absent("there is no driver for NVIDIA GPUs")
        import pynvml

        self._subject = subject
        self._tree = processes.Tree(subject.job)
        try:
            pynvml.nvmlInit()
        except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded) as error:
            raise Absent("there is no driver for NVIDIA GPUs") from error
        except pynvml.NVMLError as error:
            raise Unreadable(f"NVML cannot be used: {error}") from error
        self._nvml = pynvml
        try:
            self._devices = self._seen(subject.environment.get(VARIABLE))
        except pynvml.NVMLError as error:
            raise Unreadable(f"the GPUs cannot be listed: {error}") from error
        if not self._devices:
            raise Absent("the program sees no NVIDIA GPU")
        self._watch()

    def close(self) -> None:
        nvml, self._nvml = self._nvml, None
        self._devices = []
        if nvml is not None:
            for give_back in (lambda: self._events and nvml.nvmlEventSetFree(self._events), nvml.nvmlShutdown):
                with contextlib.suppress(nvml.NVMLError):  # the driver is gone already
                    give_back()
        self._events = None

    def read(self, now: float) -> dict[str, float]:
        self._count_events()
        values: dict[str, float] = {}
        lost: dict[int, str] = {}
        for number, device in enumerate(self._devices):
            own: dict[str, float | None] = {}
            try:
                for question in list(device.questions):
                    own |= self._answer(device, question, now)
                if device.users:
                    own["memory_used_by_run"] = owned_memory(device.users, self._own_of(device, now))
            except self._nvml.NVMLError as error:
                lost[number] = str(error)
            values |= {f"system.gpu.{number}.{name}": float(value) for name, value in own.items() if value is not None}
        for number, why in lost.items():
            if len(lost) == len(self._devices):
                raise Unreadable(f"no GPU can be read any more: {why}")
            self._subject.note(f"GPU {number} cannot be read any more: {why}")
        return values

    def allotted(self) -> dict[str, Any]:
        nvml = self._nvml
        found: dict[str, Any] = {"allotted.gpus": len(self._devices)}
        found |= self._told("allotted.driver", nvml.nvmlSystemGetDriverVersion)
        found |= self._told("allotted.cuda", lambda: _version(nvml.nvmlSystemGetCudaDriverVersion_v2()))
        for number, device in enumerate(self._devices):
            handle, key = device.handle, f"allotted.gpu.{number}"
            found |= self._told(f"{key}.name", nvml.nvmlDeviceGetName, handle)
            found |= self._told(f"{key}.uuid", nvml.nvmlDeviceGetUUID, handle)
            found |= self._told(f"{key}.memory", lambda handle: nvml.nvmlDeviceGetMemoryInfo(handle).total, handle)
            found |= self._told(
                f"{key}.power_limit", lambda handle: nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000, handle
            )
            found |= self._told(
                f"{key}.compute_mode", lambda handle: _COMPUTE_MODES.get(nvml.nvmlDeviceGetComputeMode(handle)), handle
            )
        return {**found, **self._topology()}

    # --- private ------------------------------------------------------------------------------------------------------

    def _seen(self, variable: str | None) -> list[Device]:
        nvml = self._nvml
        handles = [nvml.nvmlDeviceGetHandleByIndex(number) for number in range(nvml.nvmlDeviceGetCount())]
        instances = [self._instances(handle) for handle in handles]
        gpus = [
            Gpu(nvml.nvmlDeviceGetUUID(handle), tuple(nvml.nvmlDeviceGetUUID(one) for one in own))
            for handle, own in zip(handles, instances, strict=True)
        ]
        places = visible(variable, gpus)
        self._warn_of_order(variable, places, handles)
        return [
            Device(nvml, handles[place.gpu] if place.instance is None else instances[place.gpu][place.instance], place)
            for place in places
        ]

    def _instances(self, handle: Any) -> list[Any]:
        nvml = self._nvml
        try:
            if nvml.nvmlDeviceGetMigMode(handle)[0] != _MIG_IS_ON:
                return []
            most = nvml.nvmlDeviceGetMaxMigDeviceCount(handle)
        except nvml.NVMLError:  # neither this GPU nor this driver knows of MIG
            return []
        found = []
        for at in range(most):
            try:
                found.append(nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, at))
            except nvml.NVMLError:  # it could have more than were made
                continue
        return found

    def _warn_of_order(self, variable: str | None, places: list[Place], handles: list[Any]) -> None:
        """CUDA counts the fastest GPU first, the driver that in the first slot."""
        by_number = variable is None or any(entry.strip().isdecimal() for entry in variable.split(","))
        if not by_number or self._subject.environment.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID":
            return
        if len({self._nvml.nvmlDeviceGetName(handles[place.gpu]) for place in places}) > 1:
            self._subject.note(
                "the GPUs are of several kinds, which CUDA may count in another order than the driver does; "
                "CUDA_DEVICE_ORDER=PCI_BUS_ID makes them the same"
            )

    def _answer(self, device: Device, question: Question, now: float) -> Mapping[str, float | None]:
        nvml = self._nvml
        try:
            return question(device, now)
        except (nvml.NVMLError_GpuIsLost, nvml.NVMLError_GpuNotFound, nvml.NVMLError_Uninitialized):
            raise
        except (
            nvml.NVMLError_NotSupported,
            nvml.NVMLError_FunctionNotFound,
            nvml.NVMLError_InvalidArgument,
            nvml.NVMLError_NoPermission,
        ):
            device.questions.remove(question)
        except nvml.NVMLError:  # not this time
            pass
        return {}

    def _own_of(self, device: Device, now: float) -> set[int]:
        """The users of a device that are of this run. Looked for when others use it than before: not at each sample."""
        users = {user.pid for user in device.users}
        if users != device.known_users:
            device.known_users, device.own_users = users, users & set(self._tree.pids(now))
        return device.own_users

    def _watch(self) -> None:
        """Errors that the driver reports as events (XID) are counted from now on."""
        nvml = self._nvml
        try:
            self._events = nvml.nvmlEventSetCreate()
            for device in self._devices:
                if device.place.instance is None:
                    nvml.nvmlDeviceRegisterEvents(device.handle, _XID_CRITICAL, self._events)
                    device.xids = 0
        except nvml.NVMLError:  # an old driver, or no permission
            pass

    def _count_events(self) -> None:
        nvml = self._nvml
        if all(device.xids is None for device in self._devices):
            return
        for _ in range(_MOST_EVENTS):
            try:
                event = nvml.nvmlEventSetWait(self._events, 0)
            except nvml.NVMLError:  # nearly always that there is none
                return
            for device in self._devices:
                if device.xids is not None and device.address == Device.address_of(event.device):
                    device.xids += 1

    def _told(self, key: str, ask: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        try:
            value = ask(*arguments)
        except self._nvml.NVMLError:
            return {}
        return {} if value is None else {key: value}

    def _topology(self) -> dict[str, Any]:
        """By pairs like ``0-1``: ``NVLink``, or what lies between them."""
        nvml = self._nvml
        found = {}
        for (one, first), (other, second) in combinations(enumerate(self._devices), 2):
            try:
                if nvml.nvmlDeviceGetP2PStatus(first.handle, second.handle, _NVLINK) == 0:
                    found[f"{one}-{other}"] = "NVLink"
                    continue
            except nvml.NVMLError:
                pass
            try:
                level = nvml.nvmlDeviceGetTopologyCommonAncestor(first.handle, second.handle)
            except nvml.NVMLError:
                continue
            if level in _TOPOLOGY:
                found[f"{one}-{other}"] = _TOPOLOGY[level]
        return {"allotted.topology": found} if found else {}


def _has_driver() -> bool:
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return False
    return True


def _version(number: int) -> str:
    """NVML says 12040 for 12.4."""
    return f"{number // 1000}.{number % 1000 // 10}"
