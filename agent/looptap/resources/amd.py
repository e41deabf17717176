"""AMD GPUs, by the library that comes with ROCm (``amdsmi``). Written after its documentation; not tried on such a GPU yet."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from looptap.resources.gpu_metrics import Energy, gpu_metrics
from looptap.resources.rates import known
from looptap.resources.reader import Absent, Reader, Subject
from looptap.resources.visible import Gpu, names_one, visible

_VARIABLES = ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")
_TOLD = ("utilization", "memory_used", "memory_percent", "power", "power_percent", "energy", "temperature", "clock_sm")


class AmdReader(Reader):
    metrics = gpu_metrics(*_TOLD, "clock_memory")

    def is_wanted(self, subject: Subject) -> bool:
        return subject.is_first_on_host() or names_one(_variable(subject))

    def open(self, subject: Subject) -> None:
        try:
            import amdsmi
        except Exception as error:  # an import that finds no driver raises what it likes
            raise Absent("amdsmi is not installed") from error
        self._smi: Any = amdsmi
        try:
            amdsmi.amdsmi_init()
            handles = amdsmi.amdsmi_get_processor_handles()
        except amdsmi.AmdSmiException as error:
            raise Absent("there is no driver for AMD GPUs") from error
        places = visible(_variable(subject), [Gpu(str(number)) for number in range(len(handles))])
        if not places:
            raise Absent("the program sees no AMD GPU")
        self._devices = [(handles[place.gpu], Energy()) for place in places]

    def close(self) -> None:
        if getattr(self, "_smi", None) is not None:
            self._smi.amdsmi_shut_down()

    def allotted(self) -> dict[str, Any]:
        return {"allotted.gpus": len(self._devices)}

    def read(self, now: float) -> dict[str, float]:
        values: dict[str, float] = {}
        for number, (handle, energy) in enumerate(self._devices):
            own = known({**self._memory(handle), **self._power(handle, energy), **self._chip(handle)})
            values |= {f"system.gpu.{number}.{name}": value for name, value in own.items()}
        return values

    def _memory(self, handle: Any) -> dict[str, float | None]:
        smi, kind = self._smi, self._smi.AmdSmiMemoryType.VRAM
        used = self._number(lambda: smi.amdsmi_get_gpu_memory_usage(handle, kind))
        total = self._number(lambda: smi.amdsmi_get_gpu_memory_total(handle, kind))
        return {"memory_used": used, "memory_percent": 100 * used / total if used is not None and total else None}

    def _power(self, handle: Any, energy: Energy) -> dict[str, float | None]:
        smi = self._smi
        power = self._number(lambda: smi.amdsmi_get_power_info(handle)["average_socket_power"])
        limit = self._number(lambda: smi.amdsmi_get_power_cap_info(handle)["power_cap"] / 1e6)
        counter = self._number(lambda: _microjoules(smi.amdsmi_get_energy_count(handle)))
        return {
            "power": power,
            "power_percent": 100 * power / limit if power is not None and limit else None,
            "energy": None if counter is None else energy.since(counter / 1e6),
        }

    def _chip(self, handle: Any) -> dict[str, float | None]:
        smi = self._smi
        hot, now = smi.AmdSmiTemperatureType.HOTSPOT, smi.AmdSmiTemperatureMetric.CURRENT
        clocks = {"clock_sm": smi.AmdSmiClkType.GFX, "clock_memory": smi.AmdSmiClkType.MEM}
        return {
            "utilization": self._number(lambda: smi.amdsmi_get_gpu_activity(handle)["gfx_activity"]),
            "temperature": self._number(lambda: smi.amdsmi_get_temp_metric(handle, hot, now)),
            **{name: self._number(partial(_hertz, smi, handle, kind)) for name, kind in clocks.items()},
        }

    def _number(self, ask: Callable[[], Any]) -> float | None:
        """What is not supported is an error, or the text ``N/A``."""
        try:
            value = ask()
        except (self._smi.AmdSmiException, KeyError, TypeError):
            return None
        return float(value) if isinstance(value, int | float) else None


def _variable(subject: Subject) -> str | None:
    return next((subject.environment[name] for name in _VARIABLES if name in subject.environment), None)


def _microjoules(counted: dict[str, Any]) -> float:
    return float(counted["energy_accumulator"] * counted["counter_resolution"])


def _hertz(smi: Any, handle: Any, kind: Any) -> float:
    return float(smi.amdsmi_get_clock_info(handle, kind)["clk"]) * 1e6
