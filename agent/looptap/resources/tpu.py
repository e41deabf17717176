"""TPUs, by the monitoring part of libtpu. Written after its documentation; not tried on a TPU yet.

Only where the program has loaded libtpu itself: loading it claims the chips.
"""

from __future__ import annotations

import sys
from typing import Any

from looptap.resources.gpu_metrics import gpu_metrics
from looptap.resources.rates import known
from looptap.resources.reader import Absent, Reader, Subject, Unreadable

_MODULE = "libtpu"
_DUTY, _USED, _TOTAL = "duty_cycle_pct", "hbm_capacity_usage", "hbm_capacity_total"


class TpuReader(Reader):
    metrics = gpu_metrics("utilization", "memory_used", "memory_percent")

    def open(self, subject: Subject) -> None:
        if _MODULE not in sys.modules:
            raise Absent("the program has no TPU")
        from libtpu.sdk import tpumonitoring

        self._monitoring: Any = tpumonitoring

    def read(self, now: float) -> dict[str, float]:
        duty, used, total = (self._numbers(name) for name in (_DUTY, _USED, _TOTAL))
        values: dict[str, float | None] = {}
        for number, percent in enumerate(duty):
            values[f"system.gpu.{number}.utilization"] = percent
        for number, (of_it, all_of_it) in enumerate(zip(used, total, strict=False)):
            values[f"system.gpu.{number}.memory_used"] = of_it
            values[f"system.gpu.{number}.memory_percent"] = 100 * of_it / all_of_it if all_of_it else None
        return known(values)

    def _numbers(self, name: str) -> list[float]:
        """One for each chip, as text."""
        try:
            return [float(text) for text in self._monitoring.get_metric(name).data()]
        except (RuntimeError, ValueError) as error:
            raise Unreadable(f"libtpu does not tell {name}: {error}") from error
