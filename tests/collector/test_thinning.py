"""Thinning keeps what a person looks for: the ends, the extremes, and every kind of broken value."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from looptap_collector.backend import History
from looptap_collector.testing.batches import same_bits
from looptap_collector.thinning import thin

ODD = st.sampled_from([float("nan"), float("inf"), float("-inf")])


def history(values: list[float]) -> History:
    steps = np.arange(len(values))
    return History(steps, steps * 1_000, np.array(values, dtype=np.float64))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.floats(-1e6, 1e6), ODD), min_size=1, max_size=300), st.integers(7, 60))
def test_what_must_stay_stays(values: list[float], limit: int) -> None:
    """At most so many points, in order and unchanged, with first, last, smallest, largest and each kind of
    odd value."""
    whole = history(values)
    thinned = thin(whole, limit)
    assert len(thinned.steps) <= limit
    assert (np.diff(thinned.steps) > 0).all()
    assert same_bits(thinned.values, whole.values[thinned.steps])
    assert same_bits(thinned.times_ns, whole.times_ns[thinned.steps])
    assert thinned.steps[0] == 0
    assert thinned.steps[-1] == len(values) - 1
    for kind in (np.isnan, np.isposinf, np.isneginf):
        assert kind(thinned.values).any() == kind(whole.values).any()
    finite = whole.values[np.isfinite(whole.values)]
    if len(finite):
        kept = thinned.values[np.isfinite(thinned.values)]
        assert kept.min() == finite.min()
        assert kept.max() == finite.max()


def test_short_history_stays_whole() -> None:
    """Nothing is taken from a history that is short enough."""
    whole = history([1.0] * 100)
    assert thin(whole, 100) is whole


def test_a_spike_and_a_nan_in_a_million_points_are_seen() -> None:
    """One outlier among a million points, and one NaN, are in the 2,000 that are drawn."""
    values = np.zeros(1_000_000)
    values[123_456] = 9.0
    values[654_321] = np.nan
    steps = np.arange(len(values))
    thinned = thin(History(steps, steps, values))
    assert len(thinned.steps) <= 2_000
    assert {123_456, 654_321} <= set(thinned.steps.tolist())


def test_each_bucket_keeps_its_nan() -> None:
    """NaNs far apart are all kept while there are fewer of them than buckets."""
    values = np.ones(100_000)
    places = np.arange(500, 100_000, 10_000)
    values[places] = np.nan
    steps = np.arange(len(values))
    thinned = thin(History(steps, steps, values))
    assert set(places.tolist()) <= set(thinned.steps.tolist())


def test_too_few_points_are_refused() -> None:
    """Seven places are needed for what must be kept."""
    with pytest.raises(ValueError, match="at least 7"):
        thin(history([1.0] * 20), 6)
