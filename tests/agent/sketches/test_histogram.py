"""Histograms against the exact values, other libraries' definitions of the same buckets, and themselves in pieces."""

from __future__ import annotations

import math
import random

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from looptap.sketches.histogram import Histogram, bucket_of, decode, told, typical, upper_bound

finite = st.floats(allow_nan=False, allow_infinity=False)


def of(values: list[float], center: float = 0.0, spread: float = 1.0) -> Histogram:
    made = Histogram(center, spread)
    made.add(values)
    return made


@given(st.floats(min_value=2.0**-1022, allow_infinity=False))
def test_a_value_is_between_the_bounds_of_its_bucket(value: float) -> None:
    """And no further from what stands for it than 1.09 %."""
    bucket = bucket_of(value)
    assert upper_bound(bucket - 1) < value <= upper_bound(bucket)
    if upper_bound(bucket) < math.inf:
        assert abs(typical(bucket) / value - 1) <= 0.0109


def test_buckets_are_those_of_opentelemetry() -> None:
    """Bucket i is (base^i, base^(i+1)] with base = 2^(2^-5): a power of two is the greatest value of its bucket."""
    for exponent in range(-1000, 1000):
        assert bucket_of(2.0**exponent) == exponent * 32 - 1
        assert bucket_of(math.nextafter(2.0**exponent, math.inf)) == exponent * 32
    base: float = 2.0 ** (1 / 32)
    for index in range(-400, 400):
        assert upper_bound(index) == pytest.approx(math.pow(base, index + 1), rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shape", ["lognormal", "uniform", "normal", "two humps", "tail"])
def test_quantiles(seed: int, shape: str) -> None:
    """Within 1.1 % of the exact ones from p50 to p99.99."""
    chance = np.random.default_rng(seed)
    if shape == "lognormal":
        values = chance.lognormal(-5, 1.5, 200_000)
    elif shape == "uniform":
        values = chance.uniform(0.001, 3.0, 200_000)
    elif shape == "normal":
        values = chance.normal(50, 3, 200_000)
    elif shape == "two humps":
        values = np.concatenate([chance.normal(0.01, 0.001, 150_000), chance.normal(2, 0.1, 50_000)])
    else:
        values = chance.pareto(1.1, 200_000) + 1e-6
    found = of(values.tolist())
    for share in (0.5, 0.9, 0.99, 0.999, 0.9999):
        exact = np.quantile(values, share, method="inverted_cdf")
        assert found.quantile(share) == pytest.approx(exact, rel=0.011)
    assert (found.quantile(0.0), found.quantile(1.0)) == (values.min(), values.max())
    assert found.sum == math.fsum(values)


@given(st.lists(finite, max_size=60), st.randoms(use_true_random=False))
def test_merged_pieces_are_the_whole(values: list[float], chance: random.Random) -> None:
    """In any order, added one by one or all at once, and after travelling: equal to the last bit."""
    values = [value for value in values if abs(value) < 1e300]
    pieces = [decode(of([value], 3.0, 0.5).encode()) for value in values]
    chance.shuffle(pieces)
    merged = Histogram(3.0, 0.5)
    for piece in pieces:
        merged.merge(piece)
    whole = of(values, 3.0, 0.5)
    assert merged == whole
    assert merged.encode() == whole.encode()
    assert len(whole) == len(values) == sum(bucket.count for bucket in whole.buckets())


@pytest.mark.slow
def test_a_thousand_replicas() -> None:
    """The sketch of each merged into one is, bit for bit, the sketch of all their values."""
    values = np.random.default_rng(1).lognormal(-4, 1, 300_000).tolist()
    merged = Histogram()
    for replica in range(1000):
        merged.merge(decode(of(values[replica::1000]).encode()))
    assert merged.encode() == of(values).encode()


def test_buckets_are_in_order_and_around_the_center() -> None:
    found = of([-7.0, -0.5, 10.0, 10.0, 10.25, 12.0, 99.0], 10.0, 2.0)
    buckets = list(found.buckets())
    assert [bucket.count for bucket in buckets] == [1, 1, 2, 1, 1, 1]
    assert all(one.low <= one.high <= other.low for one, other in zip(buckets, buckets[1:], strict=False))
    for value, bucket in zip([-7.0, -0.5, 10.0, 10.25, 12.0, 99.0], buckets, strict=True):
        assert bucket.low <= value <= bucket.high


def test_close_together_and_far_from_zero() -> None:
    """What shares a bucket there is told apart around a center."""
    low, high = np.random.default_rng(2).normal(1000, 1, 5000), np.random.default_rng(3).normal(1000.3, 1, 5000)
    assert len(of(low.tolist()).positive) < 12
    apart = [of(values.tolist(), 1000.0, 1.35) for values in (low, high)]
    assert apart[1].quantile(0.5) - apart[0].quantile(0.5) == pytest.approx(0.3, abs=0.1)  # type: ignore[operator]
    with pytest.raises(ValueError, match="different centers"):
        apart[0].merge(of([1.0]))


def test_nothing_in_it() -> None:
    empty = Histogram()
    assert (len(empty), empty.quantile(0.5), empty.mean, list(empty.buckets())) == (0, None, None, [])
    assert decode(empty.encode()) == empty
    for center, spread in ((0.0, 0.0), (math.nan, 1.0), (0.0, -1.0), (math.inf, 1.0), (0.0, math.inf)):
        with pytest.raises(ValueError, match="finite center"):
            Histogram(center, spread)


def test_size() -> None:
    """A window of latencies is a few hundred bytes."""
    values = np.random.default_rng(4).lognormal(-4, 0.5, 5_000).tolist()
    assert len(of(values).encode()) < 700


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"\x90",
        b"\xc1",
        of([1.0, 2.0]).encode()[:-3],
        of([1.0]).encode().replace(b"\x91\x01", b"\x91\x02"),
    ],
)
def test_what_is_no_histogram(encoded: bytes) -> None:
    with pytest.raises(ValueError):
        decode(encoded)


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        (0, 3, "do not add up"),
        (4, -1, "do not add up"),
        (1, 2.5, "above its greatest"),
        (3, [math.nan], "the sum"),
        (3, [1.0] * 42, "the sum"),
        (5, [[-1, 0], [1, 1]], "not in order"),
        (5, [[-1, 32], [2, 0]], "not in order"),
        (5, [[-1], [1, 1]], "not in order"),
        (5, [[32_768, 1], [1, 1]], "no float is in"),
        (5, [[-34_500, 1], [1, 1]], "no float is in"),
        (6, [[0], [-1]], "not in order"),
        (7, math.nan, "finite center"),
        (8, 0.0, "finite center"),
    ],
)
def test_what_cannot_be(place: int, value: object, reason: str) -> None:
    """One part of a histogram of two values is another, and nothing is made of it, nor merged."""
    plain = msgspec.msgpack.decode(of([1.0, 2.0]).encode())
    assert len(told(msgspec.msgpack.encode(plain))) == 2
    plain[place] = value
    for read in (told, decode):
        with pytest.raises(ValueError, match=reason):
            read(msgspec.msgpack.encode(plain))
