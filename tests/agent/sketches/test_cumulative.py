"""Distances of histograms against those of the numbers themselves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import ks_2samp

from looptap.sketches.cumulative import Cumulative, kolmogorov_smirnov
from looptap.sketches.framing import frame_of
from looptap.sketches.histogram import Histogram

Draw = Callable[[np.random.Generator, float, int], "np.ndarray[tuple[int], np.dtype[np.float64]]"]
STREAMS: dict[str, Draw] = {
    "normal": lambda chance, shift, size: chance.normal(shift, 1, size),
    "far from zero": lambda chance, shift, size: chance.normal(1_000 + 1.5 * shift, 1, size),
    "uniform": lambda chance, shift, size: chance.uniform(shift, 1 + shift, size),
    "waiting times": lambda chance, shift, size: chance.exponential(1 + shift, size),
    "lengths": lambda chance, shift, size: chance.poisson(3 + shift, size).astype(float),
    "confidence": lambda chance, shift, size: chance.beta(50, 0.5 + shift / 5, size),
    "scales": lambda chance, shift, size: chance.lognormal(shift, 2, size),
    "both signs": lambda chance, shift, size: chance.standard_t(2, size) + shift,
}


def histogram(values: object, center: float = 0.0, spread: float = 1.0) -> Histogram:
    made = Histogram(center, spread)
    made.add(np.asarray(values, float).tolist())
    return made


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("shift", [0.0, 0.2, 1.0])
def test_distance_of_samples(name: str, shift: float) -> None:
    """Within 0.005 of the exact one, in the frame that some of the reference's numbers give."""
    chance = np.random.default_rng(7)
    for sizes in ((2_000, 2_000), (10_000, 2_000), (20_000, 20_000)):
        reference = STREAMS[name](chance, 0.0, sizes[0])
        now = STREAMS[name](chance, shift, sizes[1])
        frame = frame_of(reference[:1_000].tolist())
        found = kolmogorov_smirnov(histogram(now, *frame), histogram(reference, *frame))
        assert found == pytest.approx(ks_2samp(now, reference).statistic, abs=0.005)


def test_numbers_that_share_a_bucket() -> None:
    """N(1000, 1) and N(1000.3, 1): without a center nothing is to be seen of the difference."""
    chance = np.random.default_rng(1)
    one, other = chance.normal(1_000, 1, 20_000), chance.normal(1_000.3, 1, 20_000)
    exact = ks_2samp(one, other).statistic
    blind = kolmogorov_smirnov(histogram(one), histogram(other))
    assert exact > 0.1
    assert blind is not None
    assert blind < 0.05
    frame = frame_of(one.tolist())
    assert kolmogorov_smirnov(histogram(one, *frame), histogram(other, *frame)) == pytest.approx(exact, abs=0.003)


def test_distances_that_are_known() -> None:
    """Of what is the same, of what has nothing in common, of single values, and of zeros beside both signs."""
    assert kolmogorov_smirnov(histogram([1, 2, 3]), histogram([1, 2, 3])) == 0
    assert kolmogorov_smirnov(histogram([1, 2]), histogram([5, -6])) == 0.5
    assert kolmogorov_smirnov(histogram([1]), histogram([-1])) == 1
    assert kolmogorov_smirnov(histogram([0, 0, 0, 1]), histogram([0, 1, 1, 1])) == 0.5
    assert kolmogorov_smirnov(histogram([-1, 0]), histogram([0, 1])) == 0.5
    assert kolmogorov_smirnov(histogram([]), histogram([1])) is None


def test_other_centers() -> None:
    """Histograms in different frames are compared as far as their buckets tell."""
    chance = np.random.default_rng(2)
    one, other = chance.normal(0, 1, 20_000), chance.normal(0.5, 1, 20_000)
    found = kolmogorov_smirnov(histogram(one, 0.0, 1.0), histogram(other, 0.5, 2.0))
    assert found == pytest.approx(ks_2samp(one, other).statistic, abs=0.02)


def test_counts_up_to_a_value() -> None:
    """Exact at bounds, in proportion inside a bucket."""
    found = Cumulative(histogram([-4, -1, 0, 0, 2, 2, 2]))
    assert len(found) == 7
    assert [found.up_to(value) for value in (-5, -0.5, 0, 1, 2, 9)] == [0, 2, 4, 4, 7, 7]
    assert [found.below(value) for value in (-5, -0.5, 0, 1, 9)] == [0, 2, 2, 4, 7]
    low = 2 ** (31 / 32)
    assert found.up_to((low + 2) / 2) == pytest.approx(5.5)
