"""The names of what a GPU tells, whoever made it."""

from __future__ import annotations

from looptap.resources.reader import Metric

_ALL = (
    Metric("system.gpu.N.utilization", "percent", "of the time, that in which it computed anything at all"),
    Metric("system.gpu.N.memory_used", "bytes", "its memory in use, by whomever"),
    Metric("system.gpu.N.memory_percent", "percent", "the same, of all it has"),
    Metric("system.gpu.N.memory_used_by_run", "bytes", "what of it is of this program and all that it started"),
    Metric("system.gpu.N.power", "watts", "what it draws"),
    Metric("system.gpu.N.power_percent", "percent", "the same, of what it may draw"),
    Metric("system.gpu.N.energy", "joules", "what it has used since the run began"),
    Metric("system.gpu.N.temperature", "celsius", "of the chip"),
    Metric("system.gpu.N.clock_sm", "hertz", "clock of its processors"),
    Metric("system.gpu.N.clock_memory", "hertz", "clock of its memory"),
    Metric("system.gpu.N.throttled_power", "count", "1 while it is slowed down to stay within its power"),
    Metric("system.gpu.N.throttled_heat", "count", "1 while it is slowed down by heat"),
    Metric("system.gpu.N.throttled_other", "count", "1 while it is slowed down by something else"),
    Metric("system.gpu.N.pcie_sent_rate", "bytes/s", "sent to the host, in the 20 ms before the sample"),
    Metric("system.gpu.N.pcie_received_rate", "bytes/s", "received from it"),
    Metric("system.gpu.N.nvlink_sent_rate", "bytes/s", "sent to other GPUs"),
    Metric("system.gpu.N.nvlink_received_rate", "bytes/s", "received from them"),
    Metric("system.gpu.N.ecc_corrected", "count", "memory errors that were corrected, since the driver was loaded"),
    Metric("system.gpu.N.ecc_uncorrected", "count", "memory errors that were not"),
    Metric("system.gpu.N.xid_errors", "count", "errors that the driver reported (XID) since the run began"),
)


def gpu_metrics(*names: str) -> tuple[Metric, ...]:
    """Those of a GPU that tells these; all without any."""
    return tuple(metric for metric in _ALL if not names or metric.name.removeprefix("system.gpu.N.") in names)


class Energy:
    """Joules since the run began, by a counter that began some time before."""

    def __init__(self) -> None:
        self._joules = 0.0
        self._before: float | None = None

    def since(self, joules: float) -> float:
        """Where the counter jumps back (the driver was loaded again), nobody knows what was used since the sample before, and it
        goes on from there."""
        before, self._before = self._before, joules
        if before is not None:
            self._joules += max(0.0, joules - before)
        return self._joules
