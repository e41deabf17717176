"""What the numbers of resources are numbers of, by name; for whoever shows them."""

from __future__ import annotations

import functools
import re

from looptap.guard import Guard
from looptap.resources.reader import Metric
from looptap.resources.sampler import COST, discover

_DEVICE = re.compile(r"\.\d+\.")


def unit(name: str) -> str | None:
    """``bytes`` for ``system.gpu.0.memory_used``; None for what no installed reader has."""
    metric = metrics().get(_DEVICE.sub(".N.", name))
    return None if metric is None else metric.unit


@functools.cache
def metrics() -> dict[str, Metric]:
    """Of all installed readers, by name."""
    found = {COST.name: COST}
    for name, load in sorted(discover().items()):
        with Guard(name):  # a third party's may be broken
            found |= {metric.name: metric for metric in load().metrics}
    return found
