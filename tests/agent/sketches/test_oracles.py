"""Quantiles beside those of sketches that others have written and proved."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from ddsketch import LogCollapsingLowestDenseDDSketch
from hdrh.histogram import HdrHistogram

from looptap.sketches.histogram import Histogram

STREAMS: dict[str, Callable[[random.Random], float]] = {
    "lognormal": lambda chance: chance.lognormvariate(-5, 1),
    "uniform": lambda chance: chance.uniform(0.001, 1),
    "two humps": lambda chance: chance.choice((0.002, 0.2)) * chance.uniform(0.5, 1.5),
    "heavy tail": lambda chance: 0.001 * chance.paretovariate(1.2),
}
SHARES = (0.5, 0.9, 0.99, 0.999)
_MICROSECOND = 1e-6


@pytest.mark.parametrize("name", STREAMS)
def test_quantiles(name: str) -> None:
    """Within 1.1 % of the exact one, and no further from theirs than the two errors together: DDSketch at 1 %, HdrHistogram with
    three digits of whole microseconds."""
    chance = random.Random(8)
    values = [STREAMS[name](chance) for _ in range(20_000)]
    ours, dd = Histogram(), LogCollapsingLowestDenseDDSketch(relative_accuracy=0.01)
    hdr = HdrHistogram(1, 10**10, 3)
    ours.add(values)
    for value in values:
        dd.add(value)
        hdr.record_value(round(value / _MICROSECOND))
    ordered = sorted(values)
    for share in SHARES:
        found = ours.quantile(share)
        assert found == pytest.approx(ordered[int(share * (len(values) - 1))], rel=0.011)
        assert found == pytest.approx(dd.get_quantile_value(share), rel=0.022)
        assert found == pytest.approx(hdr.get_value_at_percentile(100 * share) * _MICROSECOND, rel=0.015)
