"""Streams that drift, and streams that do not: how soon the one is found, and how often the other raises an alarm."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from looptap.sketches.distribution import Distribution
from looptap.sketches.drifting import BLOCK_VALUES, FIRED, RECOVERED, Drifting

Draw = Callable[[np.random.Generator, int], Distribution]
#: Windows of 10 seconds.
DAY = 8_640
ZIPF = 1 / np.arange(1, 101)


def numbers(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Distribution:
    made = Distribution()
    made.add_numbers(values.tolist())
    return made


def normal(generator: np.random.Generator, size: int, shift: float = 0.0) -> Distribution:
    return numbers(generator.normal(shift, 1, size))


def classes(generator: np.random.Generator, size: int) -> Distribution:
    """Many, most of them rare."""
    made = Distribution()
    made.add_classes(map(str, generator.choice(100, size, p=ZIPF / ZIPF.sum())))
    return made


def events(generator: np.random.Generator, size: int) -> Distribution:
    """One in a hundred."""
    made = Distribution()
    made.add_classes(np.where(generator.random(size) < 0.01, "yes", "no").tolist())
    return made


@pytest.mark.parametrize("draw", [normal, classes, events])
@pytest.mark.parametrize("size", [3, 100])
def test_a_day_without_a_drift(draw: Draw, size: int) -> None:
    """Raises at most one alarm, in a slow stream and in a quick one."""
    generator = np.random.default_rng(11)
    drifting = Drifting(draw(generator, 10_000))
    changes = [drifting.see(draw(generator, size)) for _ in range(DAY)]
    assert len([change for change in changes if change is not None and change.state == FIRED]) <= 1


@pytest.mark.parametrize("size", [10, 100, 500])
def test_a_shift_is_found(size: int) -> None:
    """Of 0.2 σ, before 2,000 values have moved, in nearly every one of 30 streams; by then 2,000 others had been right."""
    generator = np.random.default_rng(12)
    found = []
    for _ in range(30):
        drifting = Drifting(normal(generator, 10_000))
        for _ in range(2_000 // size):
            assert drifting.see(normal(generator, size)) is None
        found += first(drifting.see(normal(generator, size, 0.2)) for _ in range(2_000 // size))
    assert len(found) >= 28


def first(changes: Iterator[object]) -> list[object]:
    return [change for change in changes if change is not None][:1]


def test_a_large_shift_is_found_at_once() -> None:
    """With the first few hundred values that moved."""
    generator = np.random.default_rng(13)
    drifting = Drifting(normal(generator, 5_000))
    for _ in range(50):
        assert drifting.see(normal(generator, 100)) is None
    assert len(first(drifting.see(normal(generator, 100, 2.0)) for _ in range(3))) == 1


def test_one_alarm_until_it_is_over() -> None:
    """A drift that lasts is told once, and its end when a whole block is right again."""
    generator = np.random.default_rng(14)
    drifting = Drifting(normal(generator, 10_000))
    told = []
    for shift in [0.0] * 30 + [0.5] * 200 + [0.0] * 200:
        change = drifting.see(normal(generator, 100, shift))
        if change is not None:
            told.append(change.state)
            assert change.values >= BLOCK_VALUES
            assert (change.state == FIRED) == (change.psi >= 0.02)
    assert told == [FIRED, RECOVERED]
    assert not drifting.stands


def test_a_small_shift_is_none() -> None:
    """However many values show it."""
    generator = np.random.default_rng(15)
    drifting = Drifting(normal(generator, 100_000))
    assert [drifting.see(normal(generator, 20_000, 0.05)) for _ in range(20)] == [None] * 20


def test_nothing_to_go_by() -> None:
    """A small reference, a window without values, a stream that has just begun."""
    generator = np.random.default_rng(16)
    assert Drifting(normal(generator, 199)).see(normal(generator, 10_000, 5.0)) is None
    drifting = Drifting(normal(generator, 200))
    assert drifting.see(Distribution()) is None
    assert drifting.see(normal(generator, 199, 5.0)) is None
    change = drifting.see(normal(generator, 1, 5.0))
    assert change is not None
    assert (change.state, change.values) == (FIRED, 200)
