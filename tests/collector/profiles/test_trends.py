"""Slopes and how sure they are."""

from __future__ import annotations

import numpy as np
import pytest

from looptap_collector.profiles.trends import MOST_POINTS, slope


def test_the_slope_of_a_line() -> None:
    found = slope(np.arange(10.0), 3 * np.arange(10.0) + 5)
    assert found is not None
    assert (found.middle, found.low, found.high) == pytest.approx((3, 3, 3))


def test_outliers_do_not_move_it() -> None:
    """A quarter of the points is anything."""
    seconds = np.arange(100.0)
    values = 2 * seconds
    values[::4] = 1e6
    found = slope(seconds, values)
    assert found is not None
    assert found.middle == pytest.approx(2, abs=0.1)


def test_the_interval_holds() -> None:
    """In about 95 of 100 cases the true slope lies in it: of 400 draws, 360 to 392."""
    generator = np.random.default_rng(1)
    seconds = np.arange(40.0)
    found = [slope(seconds, 0.1 * seconds + generator.normal(0, 1, 40)) for _ in range(400)]
    inside = [one is not None and one.low <= 0.1 <= one.high for one in found]
    assert 360 <= sum(inside) <= 392


def test_many_points_are_averaged_first() -> None:
    seconds = np.arange(20.0 * MOST_POINTS)
    found = slope(seconds, 0.5 * seconds + np.random.default_rng(0).normal(0, 100, len(seconds)))
    assert found is not None
    assert found.low < 0.5 < found.high
    assert found.high - found.low < 0.02


def test_too_little_to_tell() -> None:
    assert slope(np.arange(3.0), np.arange(3.0)) is None
    assert slope(np.zeros(10), np.arange(10.0)) is None
