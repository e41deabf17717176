"""How much a distribution differs from a reference: how far (effect), how sure (interval, chance), and that in a word.

=============  ==========================================================================================================
PSI            population stability index, Σ (p - q) ln(p / q) over :class:`~looptap.sketches.binning.Bins`; the symmetric
               divergence of Kullback and Leibler (1951). Less what chance alone adds, (bins - 1)(1/n + 1/m): Yurdakul and
               Naranjo, Statistical properties of the population stability index (2020)
JS             Jensen–Shannon divergence in bits, 0 to 1, over the same bins; Lin, Divergence measures based on the Shannon
               entropy (1991). Less what chance adds, an eighth of that of the PSI in nats: both are χ² near zero
KS             Kolmogorov–Smirnov distance of the numbers, 0 to 1 (:mod:`~looptap.sketches.cumulative`). Its interval is that
               of Dvoretzky, Kiefer and Wolfowitz with Massart's constant (1990), which holds for every distribution
chance         that samples of one distribution differ so much: Pearson's χ² test of homogeneity over the same bins; its tail
               by Wilson and Hilferty (1931)
=============  ==========================================================================================================

Intervals of PSI and JS: from the variance of a multinomial sample by the delta method, and that of χ² near zero. They hold the true
value in 95 of 100 samples. All this is of independent values: a stream in which neighbours are alike differs more by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import erfc, log, log2, sqrt
from statistics import NormalDist
from typing import NamedTuple

import msgspec

from looptap.sketches.binning import Bins
from looptap.sketches.cumulative import kolmogorov_smirnov
from looptap.sketches.distribution import Distribution
from looptap.sketches.histogram import Histogram

#: With fewer values on either side nothing is said.
LEAST_VALUES = 200
#: What differs by chance more rarely is no chance.
CERTAIN = 1e-3
#: Less is no drift, however certain. A normal distribution that moves by a seventh of its standard deviation reaches it.
LEAST_PSI = 0.02
#: The usual thresholds of credit scoring (Siddiqi, Credit risk scorecards, 2006).
MODERATE_PSI, LARGE_PSI = 0.1, 0.25
_LEVEL = 0.95
_Z = NormalDist().inv_cdf((1 + _LEVEL) / 2)
#: Added to each bin, so that an empty one has a logarithm.
_HALF = 0.5

TOO_FEW, TOO_COARSE = "too few", "too coarse"
SAME, SLIGHT, MODERATE, LARGE = "same", "slight", "moderate", "large"
#: Numbers around different centers are compared as long as no bucket has a greater share of them.
_COARSE = 0.05


class Estimate(NamedTuple):
    """A measure with its interval of 95 %."""

    value: float
    low: float
    high: float


class Comparison(msgspec.Struct, frozen=True):
    """``verdict``: same, slight, moderate or large; or too few (values) or too coarse (numbers that are counted around different
    centers, too many of them in one bucket), where there is no number. ``ks`` is None where there are no numbers."""

    count: int
    reference_count: int
    verdict: str
    psi: Estimate | None = None
    js: Estimate | None = None
    ks: Estimate | None = None
    chance: float | None = None


def compare(now: Distribution, reference: Distribution) -> Comparison:
    """A missing or a new class, NaN and missing values count as well as numbers that have moved."""
    if min(len(now), len(reference)) < LEAST_VALUES:
        return Comparison(len(now), len(reference), TOO_FEW)
    if _is_coarse(now.numbers, reference.numbers):
        return Comparison(len(now), len(reference), TOO_COARSE)
    bins = Bins(reference)
    counts, known = bins.pooled(bins.counts(now))
    chance, psi = homogeneity(counts, known), population_stability(counts, known)
    return Comparison(
        len(now),
        len(reference),
        verdict_of(chance, psi.value),
        psi,
        jensen_shannon(counts, known),
        _ks(now, reference),
        chance,
    )


def verdict_of(chance: float, psi: float) -> str:
    if chance > CERTAIN or psi < LEAST_PSI:
        return SAME
    return LARGE if psi >= LARGE_PSI else MODERATE if psi >= MODERATE_PSI else SLIGHT


def population_stability(counts: Sequence[float], reference: Sequence[float]) -> Estimate:
    """PSI of two lists of counts, bin by bin, of one length and with a value at least in each bin of one of them."""
    shares, known = _shares(counts), _shares(reference)
    value = sum((p - q) * log(p / q) for p, q in zip(shares, known, strict=True))
    slopes = [log(p / q) + 1 - q / p for p, q in zip(shares, known, strict=True)]
    others = [log(q / p) + 1 - p / q for p, q in zip(shares, known, strict=True)]
    return _estimate(value, 1.0, (counts, shares, slopes), (reference, known, others))


def jensen_shannon(counts: Sequence[float], reference: Sequence[float]) -> Estimate:
    """In bits, as :func:`population_stability`."""
    shares, known = _shares(counts), _shares(reference)
    middle = [(p + q) / 2 for p, q in zip(shares, known, strict=True)]
    slopes = [log2(p / m) / 2 for p, m in zip(shares, middle, strict=True)]
    others = [log2(q / m) / 2 for q, m in zip(known, middle, strict=True)]
    value = _mean(shares, slopes) + _mean(known, others)
    found = _estimate(value, 1 / (8 * log(2)), (counts, shares, slopes), (reference, known, others))
    return Estimate(*(min(1.0, number) for number in found))


def homogeneity(counts: Sequence[float], reference: Sequence[float]) -> float:
    """The chance that two samples of one distribution differ by so much or more: 0 to 1."""
    n, m = sum(counts), sum(reference)
    freedom = len(counts) - 1
    if not freedom:
        return 1.0
    statistic = sum(
        (count * m - known * n) ** 2 / (count + known) for count, known in zip(counts, reference, strict=True)
    ) / (n * m)
    spread = 2 / (9 * freedom)
    return erfc(((statistic / freedom) ** (1 / 3) - (1 - spread)) / sqrt(2 * spread)) / 2


def _ks(now: Distribution, reference: Distribution) -> Estimate | None:
    value = kolmogorov_smirnov(now.numbers, reference.numbers)
    if value is None:
        return None
    # Each side keeps within its own band in all but half of the cases that may miss.
    missed = (1 - _LEVEL) / 2
    band = sum(sqrt(log(2 / missed) / (2 * len(one.numbers))) for one in (now, reference))
    return Estimate(value, max(0.0, value - band), min(1.0, value + band))


def _is_coarse(one: Histogram, other: Histogram) -> bool:
    if (one.center, one.spread) == (other.center, other.spread):
        return False
    return any(bucket.count > _COARSE * len(side) for side in (one, other) for bucket in side.buckets())


class _Side(NamedTuple):
    counts: Sequence[float]
    shares: Sequence[float]
    slopes: Sequence[float]


def _estimate(value: float, scale: float, *sides: tuple[Sequence[float], Sequence[float], Sequence[float]]) -> Estimate:
    """``scale``: what the measure is near zero, in those of a PSI."""
    freedom = len(sides[0][0]) - 1
    noise = scale * sum(1 / sum(counts) for counts, _, _ in sides)
    variance = 2 * freedom * noise**2
    for counts, shares, slopes in sides:
        squares = [slope * slope for slope in slopes]
        variance += max(0.0, _mean(shares, squares) - _mean(shares, slopes) ** 2) / sum(counts)
    unbiased = value - freedom * noise
    reach = _Z * sqrt(variance)
    return Estimate(*(max(0.0, number) for number in (unbiased, unbiased - reach, unbiased + reach)))


def _mean(shares: Sequence[float], values: Sequence[float]) -> float:
    return sum(share * value for share, value in zip(shares, values, strict=True))


def _shares(counts: Sequence[float]) -> list[float]:
    total = sum(counts) + _HALF * len(counts)
    return [(count + _HALF) / total for count in counts]
