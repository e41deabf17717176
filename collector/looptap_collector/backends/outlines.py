"""The outline of a long chunk: its points in order of step, thinned to one in :data:`RATIO`, for charts (decision 0012).

Whatever stands in for a chunk in a chart is thinned to the same ratio, so that points of a chart are spread over the
series as its own points are.
"""

from __future__ import annotations

import numpy as np

from looptap_collector import chunks
from looptap_collector.backend import History
from looptap_collector.backends.summaries import Columns
from looptap_collector.thinning import FEWEST, thin

#: Points of a chunk for each point of its outline.
RATIO = 128
#: A shorter chunk has no outline: reading it costs about as much.
LONG_POINTS = 8_192


def in_order(points: Columns) -> History:
    """By step, those of one step in order of arrival."""
    steps, times_ns, values = points.steps, points.times_ns, points.values
    if (steps[1:] < steps[:-1]).any():
        order = np.argsort(steps, kind="stable")
        steps, times_ns, values = steps[order], times_ns[order], values[order]
    return History(steps, times_ns, values)


def outlined(points: Columns) -> Columns:
    """First and last by step, extremes and odd values are among them, as :func:`thin` promises."""
    kept = thin(in_order(points), max(FEWEST, len(points) // RATIO))
    return Columns(kept.steps, kept.times_ns, kept.values)


def outline(points: Columns) -> bytes:
    kept = outlined(points)
    return chunks.encode(kept.steps, kept.times_ns, kept.values)
