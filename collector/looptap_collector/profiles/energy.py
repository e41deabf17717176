"""What a run took out of the socket, and what it cost.

Joules come from counters of the devices (:data:`COUNTERS`), which count from the begin of the run. Of what has no counter nobody
knows: disks, fans and the power supply are in none of them.
"""

from __future__ import annotations

import math
import re

import numpy as np

from looptap_collector.backend import History
from looptap_collector.profiles.evidence import Evidence
from looptap_collector.profiles.shapes import Cost, Energy
from looptap_collector.query import duration_seconds

JOULES_PER_KWH = 3.6e6
PRICE, GRID = "allotted.price_per_hour", "allotted.grid_kg_per_kwh"
COUNTERS = re.compile(r"system\.(?:gpu\.(?P<gpu>\d{1,4})\.energy|energy\.cpu)$")


def energy_of(run: Evidence, grid: float | None = None) -> Energy | None:
    """None where nothing was measured. ``grid``: kg of CO₂e for a kWh; default: what the run was told."""
    counters = {name: samples for name, samples in _counters(run).items() if len(samples.values)}
    if not counters:
        return None
    of = {name: float(samples.values.max()) for name, samples in counters.items()}
    joules = sum(of.values())
    kwh = joules / JOULES_PER_KWH
    each = _of_a_step(run, list(counters.values()))
    batch = run.number("batch_size_effective", "fit.batch_size")
    grid = run.number(GRID) if grid is None else grid
    return Energy(
        joules,
        kwh,
        of,
        joules_per_step=each,
        joules_per_sample=each / batch if each is not None and batch else None,
        co2e_kg=None if grid is None else kwh * grid,
        grid_kg_per_kwh=grid,
    )


def cost_of(run: Evidence, price: float | None = None) -> Cost | None:
    """``price`` of an hour; default: what the run was told. None where nobody has told one."""
    price = run.number(PRICE) if price is None else price
    if price is None or not math.isfinite(price):
        return None
    hours = duration_seconds(run.run) / 3600
    return Cost(hours, price, hours * price)


def _counters(run: Evidence) -> dict[str, History]:
    found = {}
    for key in run.names:
        if (counter := COUNTERS.match(key)) is not None:
            name = f"GPU {counter['gpu']}" if counter["gpu"] else "CPU"
            for rank, samples in run.whole(key).items():
                found[f"{name} (rank {rank})" if rank else name] = samples
    return found


def _of_a_step(run: Evidence, counters: list[History]) -> float | None:
    """The mean over the steps that were looked at. Counters are read now and then; between two readings a straight line is
    assumed. None where no two readings were made during the training."""
    if not run.steps or run.window is None:
        return None
    numbers = run.steps[0].numbers
    steps = int(numbers[-1] - numbers[0]) + 1
    used = 0.0
    for samples in counters:
        within = (samples.times_ns >= run.window[0]) & (samples.times_ns <= run.window[1])
        if within.sum() < 2:
            return None
        first, last = np.interp(run.window, samples.times_ns, samples.values)
        used += float(last - first)
    return used / steps
