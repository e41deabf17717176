"""The GPU of Apple's own chips, as ``ioreg`` tells of it. Written after its output; not tried beside a training yet."""

from __future__ import annotations

import platform
import plistlib
import subprocess
from typing import Any

from looptap.resources.gpu_metrics import gpu_metrics
from looptap.resources.reader import Absent, Reader, Subject, Unreadable

#: A process has to be started for it, so seldom.
_EVERY_SECONDS = 10.0
_TIMEOUT_SECONDS = 5.0
_COMMAND = ("ioreg", "-a", "-r", "-d", "1", "-w", "0", "-c", "IOAccelerator")
_UTILIZATION, _MEMORY = "Device Utilization %", "In use system memory"


class AppleReader(Reader):
    metrics = gpu_metrics("utilization", "memory_used")

    def open(self, subject: Subject) -> None:
        if platform.system() != "Darwin":
            raise Absent("this is no machine of Apple")
        self._due = 0.0

    def read(self, now: float) -> dict[str, float]:
        if now < self._due:
            return {}
        self._due = now + _EVERY_SECONDS
        try:
            done = subprocess.run(_COMMAND, capture_output=True, timeout=_TIMEOUT_SECONDS, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            raise Unreadable(f"ioreg does not answer: {error}") from error
        return values_in(plistlib.loads(done.stdout) if done.stdout else [])


def values_in(accelerators: list[dict[str, Any]]) -> dict[str, float]:
    """Of what ``ioreg -a`` tells of each."""
    values = {}
    for number, accelerator in enumerate(accelerators):
        told = accelerator.get("PerformanceStatistics", {})
        for name, key in (("utilization", _UTILIZATION), ("memory_used", _MEMORY)):
            if isinstance(told.get(key), int):
                values[f"system.gpu.{number}.{name}"] = float(told[key])
    return values
