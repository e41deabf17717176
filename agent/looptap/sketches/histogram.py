"""How numbers are spread, in buckets that grow by 2.2 %: every quantile within 1.09 % of the exact one, whatever the numbers are.

The buckets are those of the base-2 exponential histogram of OpenTelemetry at scale 5, which are those of Prometheus' native
histograms at schema 5: bucket ``i`` holds values above ``2^(i/32)`` up to and with ``2^((i+1)/32)``; negative ones have buckets of
their own by magnitude, zero has one. Since every histogram has the same buckets, merging adds counts: histograms of a thousand
replicas are, in whatever order they are merged, to the last bit the one that a single process had made.

Numbers that lie close together far from zero share a bucket (1000 and 1000.3). A histogram with a ``center`` and a ``spread``
counts ``(value - center) / spread`` instead; then the buckets are finest around the center. Only histograms with the same two
merge.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from math import ceil, frexp, inf, ldexp
from typing import TypeAlias

import msgspec

from looptap.sketches.exact_sum import exact_sum

SCALE = 5
_PER_OCTAVE = 1 << SCALE
#: Upper bounds of the buckets of one octave, as a mantissa of frexp: 0.5 up to 1.
_BOUNDS: list[float] = [2.0 ** (step / _PER_OCTAVE - 1.0) for step in range(_PER_OCTAVE + 1)]


def bucket_of(magnitude: float) -> int:
    """Of a finite value above zero. Found in a table and not by a logarithm, whose last bit is another one on another machine."""
    mantissa, exponent = frexp(magnitude)
    return (exponent - 1) * _PER_OCTAVE + bisect_left(_BOUNDS, mantissa) - 1


_LEAST, _GREATEST = 5e-324, 1.7976931348623157e308
#: Of the least and the greatest float above zero.
_LEAST_BUCKET, _GREATEST_BUCKET = bucket_of(_LEAST), bucket_of(_GREATEST)
#: More are no count but a mistake; sums of many histograms have room.
MOST_VALUES = 1 << 48
#: Terms of 53 bits that the exact sum of floats can have; each begins where the one before it ends.
_MOST_TERMS = 41
#: So many terms of a sum wait to be added up: many at once cost least.
_MOST_WAITING = 1_000
#: Of some buckets the first, and the distance from each to the next; and the count of each.
_Gaps: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]


def _buckets(magnitudes: Iterable[float]) -> list[int]:
    """As :func:`bucket_of` each, at half its price."""
    bounds, find = _BOUNDS, bisect_left
    return [
        exponent * _PER_OCTAVE + find(bounds, mantissa) - (_PER_OCTAVE + 1)
        for mantissa, exponent in map(frexp, magnitudes)
    ]


def upper_bound(bucket: int) -> float:
    """The greatest value in it; inf for the last one that a float reaches. Below 2^-1022 floats are further apart than buckets."""
    octave, step = divmod(bucket + 1, _PER_OCTAVE)
    try:
        return ldexp(_BOUNDS[step], octave + 1)
    except OverflowError:
        return inf


def typical(bucket: int) -> float:
    """The value whose relative distance to both ends is the same: never more than 1.09 % off."""
    low, high = upper_bound(bucket - 1), upper_bound(bucket)
    if high == inf:
        return low
    return low * (2 * (high / low) / (1 + high / low)) if low else high


class Bucket(msgspec.Struct, frozen=True):
    """``count`` values above ``low`` (at or above, for negative ones and zero) up to ``high``, in the unit of the values."""

    low: float
    high: float
    count: int


class Histogram:
    """Of finite values. Not safe to change from several threads at once."""

    __slots__ = ("_count", "_terms", "center", "max", "min", "negative", "positive", "spread", "zero")

    def __init__(self, center: float = 0.0, spread: float = 1.0) -> None:
        """Raises ValueError unless ``spread`` is a finite number above zero."""
        _check_frame(center, spread)
        self.center = center
        self.spread = spread
        #: Counts by bucket, of transformed values above zero and, by magnitude, below. A Counter takes twice as long to change.
        self.positive: dict[int, int] = {}
        self.negative: dict[int, int] = {}
        self.zero = 0
        #: Of the values themselves; inf and -inf while there are none.
        self.min = inf
        self.max = -inf
        self._count = 0
        #: What the sum is made of.
        self._terms: list[float] = []

    def __len__(self) -> int:
        return self._count

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Histogram) and self.as_plain() == other.as_plain()

    __hash__ = None  # type: ignore[assignment]

    @property
    def sum(self) -> float:
        """Of the values themselves; rounded once."""
        terms = self._exact_sum()
        return terms[0] if terms else 0.0

    @property
    def mean(self) -> float | None:
        return self.sum / self._count if self._count else None

    def add(self, values: Sequence[float]) -> None:
        """Finite ones only."""
        if not values:
            return
        least, greatest = min(values), max(values)
        self.min = min(self.min, least)
        self.max = max(self.max, greatest)
        self._count += len(values)
        self._terms += values
        if len(self._terms) > _MOST_WAITING:
            self._exact_sum()
        counted = values
        if self.center != 0.0 or self.spread != 1.0:
            center, spread = self.center, self.spread
            counted = [(value - center) / spread for value in values]
            least, greatest = min(counted), max(counted)
            if greatest == inf or least == -inf:
                counted = [min(_GREATEST, max(-_GREATEST, value)) for value in counted]
        above = _buckets(counted if least > 0 else (value for value in counted if value > 0))
        below = _buckets(-value for value in counted if value < 0) if least < 0 else []
        _add(self.positive, Counter(above))
        _add(self.negative, Counter(below))
        self.zero += len(values) - len(above) - len(below)

    def merge(self, other: Histogram | Told) -> None:
        """Raises ValueError when the other counts around another center."""
        if (self.center, self.spread) != (other.center, other.spread):
            raise ValueError("two histograms with different centers or spreads cannot be merged")
        _add(self.positive, other.positive)
        _add(self.negative, other.negative)
        self.zero += other.zero
        self.min = min(self.min, other.min)
        self.max = max(self.max, other.max)
        self._count += len(other)
        self._terms += other.terms
        if len(self._terms) > _MOST_WAITING:
            self._exact_sum()

    def buckets(self) -> Iterator[Bucket]:
        """From the least value to the greatest; those with a count."""
        for index in sorted(self.negative, reverse=True):
            yield self._bucket(-upper_bound(index), -upper_bound(index - 1), self.negative[index])
        if self.zero:
            yield self._bucket(0.0, 0.0, self.zero)
        for index in sorted(self.positive):
            yield self._bucket(upper_bound(index - 1), upper_bound(index), self.positive[index])

    def quantile(self, share: float) -> float | None:
        """The least value that this share of the values (0 to 1) is not above; None where there are none. Least and greatest are
        exact."""
        if not self._count:
            return None
        rank = ceil(share * self._count)
        if rank <= 1:
            return self.min
        if rank >= self._count:
            return self.max
        reached = 0
        for value, count in self._typical_values():
            reached += count
            if rank <= reached:
                return min(self.max, max(self.min, value))
        return self.max

    def as_plain(self) -> tuple[object, ...]:
        """The same for equal histograms, to the last bit; as :class:`Told` has it."""
        return (
            self._count,
            self.min,
            self.max,
            self._exact_sum(),
            self.zero,
            _gaps(self.positive),
            _gaps(self.negative),
            self.center,
            self.spread,
        )

    def encode(self) -> bytes:
        """A few bytes for each bucket that has a count."""
        return msgspec.msgpack.encode(self.as_plain())

    # --- private ------------------------------------------------------------------------------------------------------

    @property
    def terms(self) -> Sequence[float]:
        """Add up to the exact sum."""
        return self._terms

    def _exact_sum(self) -> tuple[float, ...]:
        """Its terms, as few as there can be."""
        found = exact_sum(self._terms)
        self._terms = list(found)
        return found

    def _typical_values(self) -> Iterator[tuple[float, int]]:
        for index in sorted(self.negative, reverse=True):
            yield self.center - typical(index) * self.spread, self.negative[index]
        if self.zero:
            yield self.center, self.zero
        for index in sorted(self.positive):
            yield self.center + typical(index) * self.spread, self.positive[index]

    def _bucket(self, low: float, high: float, count: int) -> Bucket:
        return Bucket(self.center + low * self.spread, self.center + high * self.spread, count)


class Told(msgspec.Struct, array_like=True, frozen=True):
    """A histogram as it is encoded: to merge it, nothing more need be made of it. A report merges a hundred thousand of these."""

    count: int
    min: float
    max: float
    terms: tuple[float, ...]
    zero: int
    positive: _Gaps
    negative: _Gaps
    center: float
    spread: float

    def __len__(self) -> int:
        return self.count


def told(encoded: bytes) -> Told:
    """Raises ValueError (a :class:`msgspec.MsgspecError` is one) for what :meth:`Histogram.encode` has not made."""
    found: Told = _DECODER.decode(encoded)
    _check_frame(found.center, found.spread)
    above, below = _checked(*found.positive), _checked(*found.negative)
    if found.zero < 0 or above + below + found.zero != found.count:
        raise ValueError("the buckets of a histogram do not add up to its count")
    if found.count > MOST_VALUES:
        raise ValueError(f"a histogram of {found.count} values")
    if not (found.min <= found.max if found.count else (found.min, found.max) == (inf, -inf)):
        raise ValueError("the least value of a histogram is above its greatest")
    # A NaN among them would never come to an end.
    if len(found.terms) > _MOST_TERMS or any(term != term for term in found.terms):
        raise ValueError("the sum of a histogram is none")
    return found


def decode(encoded: bytes) -> Histogram:
    """Raises ValueError as :func:`told`."""
    other = told(encoded)
    found = Histogram(other.center, other.spread)
    found.merge(other)
    return found


_DECODER = msgspec.msgpack.Decoder(Told)


def _check_frame(center: float, spread: float) -> None:
    if not 0 < spread < inf or center - center != 0:
        raise ValueError(f"a histogram needs a finite center and a spread above zero, not {center!r} and {spread!r}")


def _gaps(counts: dict[int, int]) -> _Gaps:
    """The first bucket and the distance from each to the next, which are short in MessagePack; and the counts."""
    indices = sorted(counts)
    gaps = [index - before for index, before in zip(indices, [0, *indices], strict=False)]
    return tuple(gaps), tuple(counts[index] for index in indices)


def _checked(gaps: Sequence[int], counts: Sequence[int]) -> int:
    """How many values are in these buckets, if they can be."""
    if len(gaps) != len(counts) or (gaps and (min(counts) <= 0 or min(gaps[1:], default=1) <= 0)):
        raise ValueError("the buckets of a histogram are not in order")
    if gaps and not _LEAST_BUCKET <= gaps[0] <= sum(gaps) <= _GREATEST_BUCKET:
        raise ValueError("a histogram has a bucket that no float is in")
    return sum(counts)


def _add(counts: dict[int, int], others: dict[int, int] | _Gaps) -> None:
    told = zip(accumulate(others[0]), others[1], strict=True) if isinstance(others, tuple) else others.items()
    known = counts.get
    for bucket, count in told:
        counts[bucket] = known(bucket, 0) + count
