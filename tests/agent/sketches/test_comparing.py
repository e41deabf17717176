"""Measures against SciPy's, their intervals against what they promise, and verdicts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2_contingency

from looptap.sketches.comparing import (
    Estimate,
    compare,
    homogeneity,
    jensen_shannon,
    population_stability,
)
from looptap.sketches.distribution import Distribution

P = np.array([0.4, 0.3, 0.2, 0.08, 0.02])
Q = np.array([0.35, 0.3, 0.2, 0.1, 0.05])
PSI = float(((P - Q) * np.log(P / Q)).sum())
JS = float(jensenshannon(P, Q, base=2) ** 2)


def test_large_samples_give_the_measures_themselves() -> None:
    one, other = (P * 1e9).tolist(), (Q * 1e9).tolist()
    assert population_stability(one, other).value == pytest.approx(PSI, rel=1e-5)
    assert jensen_shannon(one, other).value == pytest.approx(JS, rel=1e-5)
    assert jensen_shannon([1e9, 0], [0, 1e9]).value == pytest.approx(1, abs=1e-6)


def test_the_chance_of_a_difference() -> None:
    """As the exact tail of χ² says it, from likely to nearly impossible."""
    generator = np.random.default_rng(0)
    seen = []
    for size in (300, 1_000, 3_000, 10_000):
        for _ in range(10):
            table = np.array([generator.multinomial(size, P), generator.multinomial(2 * size, Q)])
            exact = chi2_contingency(table).pvalue
            if exact > 1e-12:
                assert homogeneity(*table.tolist()) == pytest.approx(exact, rel=0.25, abs=1e-4)
                seen.append(exact)
    assert min(seen) < 1e-6
    assert max(seen) > 0.01
    assert homogeneity([10], [20]) == 1


@pytest.mark.parametrize("sizes", [(500, 500), (2_000, 10_000), (10_000, 2_000)])
@pytest.mark.parametrize(("measure", "truth"), [(population_stability, PSI), (jensen_shannon, JS)])
def test_intervals_hold_the_truth(
    measure: Callable[[list[float], list[float]], Estimate], truth: float, sizes: tuple[int, int]
) -> None:
    """In about 95 of 100 samples, and what is told lies about the truth."""
    generator = np.random.default_rng(1)
    found = [
        measure(generator.multinomial(sizes[0], P).tolist(), generator.multinomial(sizes[1], Q).tolist())
        for _ in range(400)
    ]
    assert 0.91 <= np.mean([one.low <= truth <= one.high for one in found]) <= 1
    assert np.mean([one.value for one in found]) == pytest.approx(truth, rel=0.15)


@pytest.mark.parametrize("measure", [population_stability, jensen_shannon])
def test_samples_of_the_same(measure: Callable[[list[float], list[float]], Estimate]) -> None:
    """Show a difference in one of twenty at most."""
    generator = np.random.default_rng(2)
    found = [
        measure(generator.multinomial(800, P).tolist(), generator.multinomial(800, P).tolist()) for _ in range(400)
    ]
    assert np.mean([one.low > 0 for one in found]) <= 0.05


def test_the_interval_of_the_distance() -> None:
    """Of N(0, 1) and N(0.2, 1) the distance is 0.0797."""
    generator = np.random.default_rng(3)
    held = []
    for _ in range(60):
        found = compare(normal(generator, 0.2, 2_000), normal(generator, 0.0, 5_000))
        assert found.ks is not None
        held.append(found.ks.low <= 0.0797 <= found.ks.high)
    assert np.mean(held) >= 0.95


def normal(generator: np.random.Generator, shift: float, size: int) -> Distribution:
    made = Distribution()
    made.add_numbers(generator.normal(shift, 1, size).tolist())
    return made


def classes(**counts: int) -> Distribution:
    made = Distribution()
    for name, count in counts.items():
        made.add_classes([name] * count)
    return made


@pytest.mark.parametrize(
    ("shift", "verdict"), [(0.0, "same"), (0.05, "same"), (0.2, "slight"), (0.4, "moderate"), (1.0, "large")]
)
def test_verdicts_on_numbers(shift: float, verdict: str) -> None:
    """A small shift is none, however certain it is."""
    generator = np.random.default_rng(4)
    found = compare(normal(generator, shift, 50_000), normal(generator, 0.0, 50_000))
    assert found.verdict == verdict
    assert (found.count, found.reference_count) == (50_000, 50_000)


def test_verdicts_on_classes() -> None:
    reference = classes(cat=500, dog=500)
    assert compare(classes(cat=490, dog=510), reference).verdict == "same"
    moved = compare(classes(cat=600, dog=400), reference)
    assert (moved.verdict, moved.ks) == ("slight", None)
    assert compare(classes(cat=300, dog=300, horse=400), reference).verdict == "large"
    assert compare(classes(cat=1_000), reference).verdict == "large"


def test_what_is_missing_counts() -> None:
    """Numbers that stay as they are, with a tenth that is NaN."""
    generator = np.random.default_rng(5)
    now = normal(generator, 0.0, 2_000)
    now.add_numbers([float("nan")] * 200)
    assert compare(now, normal(generator, 0.0, 2_000)).verdict in ("moderate", "large")


def test_numbers_around_different_centers() -> None:
    """Are compared where the buckets of both are fine enough, and else nothing is said."""
    generator = np.random.default_rng(6)

    def around(values: object, *frame: float) -> Distribution:
        made = Distribution(*frame)
        made.add_numbers(np.asarray(values).tolist())
        return made

    values = generator.normal(1_000, 1, 5_000)
    found = compare(around(values), around(values, 1_000.0, 1.0))
    assert (found.verdict, found.psi, found.ks) == ("too coarse", None, None)
    small = generator.normal(0, 1, 5_000)
    found = compare(around(small), around(small, 0.1, 1.5))
    assert found.verdict == "same"
    assert found.ks is not None
    assert found.ks.value < 0.01


def test_too_few_to_tell() -> None:
    """No number is made of them."""
    found = compare(classes(cat=199), classes(dog=10_000))
    assert found.verdict == "too few"
    assert (found.psi, found.js, found.ks, found.chance) == (None, None, None, None)
    assert compare(classes(dog=10_000), classes(cat=199)).verdict == "too few"
    assert compare(Distribution(), Distribution()).verdict == "too few"
