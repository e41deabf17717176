"""What samples say of the time between them."""

from __future__ import annotations

import numpy as np
import pytest

from looptap_collector.backend import History
from looptap_collector.profiles.samples import LONGEST_GAP_SECONDS, mean, share_above


def samples(seconds: list[float], values: list[float]) -> History:
    return History(np.arange(len(values)), (np.array(seconds) * 1e9).astype(np.int64), np.array(values))


def test_a_sample_stands_for_the_time_before_it() -> None:
    """Once a second at first, every ten seconds later: the mean is over the time."""
    found = samples([0, 1, 2, 3, 13, 23], [0, 0, 0, 0, 10, 10])
    assert mean(found) == pytest.approx(200 / 24)
    assert share_above(found, 5) == pytest.approx(20 / 24)


def test_a_long_gap_is_not_all_of_the_run() -> None:
    """The machine slept for an hour: the sample behind it stands for a minute of that."""
    found = samples([0, 30, 60, 3660, 3690], [0, 0, 0, 10, 0])
    assert mean(found) == pytest.approx(10 * LONGEST_GAP_SECONDS / (4 * 30 + LONGEST_GAP_SECONDS))


def test_samples_of_one_moment() -> None:
    assert mean(samples([5, 5], [1, 3])) == 2
