"""All rules, in the order of the docs."""

from __future__ import annotations

from looptap_collector.profiles import batches, creep, devices, machine, memory, waiting
from looptap_collector.profiles.rule import Rule

RULES: tuple[Rule, ...] = (
    waiting.waiting_for_data,
    waiting.host_to_device_bound,
    batches.tiny_batches,
    devices.gpu_idle,
    waiting.checkpoint_stalls,
    waiting.slow_rank,
    machine.cpu_throttled,
    machine.swapping,
    memory.out_of_memory,
    creep.memory_creep,
    memory.memory_nearly_full,
    memory.room_for_larger_batches,
    devices.gpu_power_throttled,
    devices.gpu_heat_throttled,
)
