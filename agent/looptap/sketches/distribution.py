"""What a model answers, or is asked, as counts: numbers in a histogram, classes by name, and what is neither."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from math import isfinite, isnan
from typing import Generic, TypeAlias, TypeVar

import msgspec

from looptap.sketches import histogram
from looptap.sketches.histogram import Histogram

#: So many classes are told by name, the most frequent ones; what is beyond is in ``other``.
MOST_CLASSES = 256
#: Of many windows together, a store keeps so many.
MOST_CLASSES_OF_MANY = 4_096


class Distribution:
    """Of one stream of values: numbers or classes, or both where a program answers so. Merging is exact, and what is encoded tells
    all as long as there are no more than ``most_classes`` classes. Not safe to change from several threads at once."""

    __slots__ = ("above", "below", "classes", "nan", "null", "numbers", "other")

    def __init__(self, center: float = 0.0, spread: float = 1.0) -> None:
        """Raises ValueError as :class:`Histogram`."""
        self.numbers = Histogram(center, spread)
        self.classes: Counter[str] = Counter()
        #: Values of classes that are not told by name.
        self.other = 0
        #: NaN, +Inf, -Inf, and nothing at all (None).
        self.nan = self.above = self.below = self.null = 0

    def __len__(self) -> int:
        """How many values there were, of whatever kind."""
        named = self.classes.total() + self.other
        return len(self.numbers) + named + self.nan + self.above + self.below + self.null

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Distribution) and self._plain() == other._plain()

    __hash__ = None  # type: ignore[assignment]

    def add_numbers(self, values: Iterable[float]) -> None:
        values = list(values)
        finite = [value for value in values if isfinite(value)]
        if len(finite) < len(values):
            strange = [value for value in values if not isfinite(value)]
            self.nan += sum(map(isnan, strange))
            self.above += sum(value > 0 for value in strange)
            self.below += sum(value < 0 for value in strange)
        self.numbers.add(finite)

    def add_classes(self, names: Iterable[str]) -> None:
        self.classes.update(names)

    def add_null(self, count: int = 1) -> None:
        self.null += count

    def merge(self, other: Distribution | Told) -> None:
        """Raises ValueError when its numbers are counted around another center."""
        self.numbers.merge(other.numbers)
        self.merge_counts(other)

    def merge_counts(self, other: Distribution | Told) -> None:
        """All but the numbers."""
        classes, known = self.classes, self.classes.get
        for name, count in other.classes.items():
            classes[name] = known(name, 0) + count
        self.other += other.other
        self.nan += other.nan
        self.above += other.above
        self.below += other.below
        self.null += other.null

    def encode(self, most_classes: int = MOST_CLASSES) -> bytes:
        return msgspec.msgpack.encode(self._plain(most_classes))

    def _plain(self, most_classes: int = MOST_CLASSES) -> _Form[bytes]:
        ordered = sorted(self.classes.items(), key=lambda item: (-item[1], item[0]))
        other = self.other + sum(count for _, count in ordered[most_classes:])
        named = dict(sorted(ordered[:most_classes]))
        return _Form(self.numbers.encode(), named, other, self.nan, self.above, self.below, self.null)


_Numbers = TypeVar("_Numbers")


class _Form(msgspec.Struct, Generic[_Numbers], array_like=True, frozen=True):
    numbers: _Numbers
    classes: dict[str, int]
    other: int
    nan: int
    above: int
    below: int
    null: int


#: A distribution as it is encoded: to merge it, nothing more need be made of it.
Told: TypeAlias = _Form[histogram.Told]


def told(encoded: bytes) -> Told:
    """Raises ValueError (a :class:`msgspec.MsgspecError` is one) for what :meth:`Distribution.encode` has not made."""
    plain = _DECODER.decode(encoded)
    classes = plain.classes
    counts = (plain.other, plain.nan, plain.above, plain.below, plain.null, *classes.values())
    if min(counts) < 0 or 0 in classes.values() or sum(counts) > histogram.MOST_VALUES:
        raise ValueError("a distribution has a count that cannot be")
    if len(classes) > MOST_CLASSES_OF_MANY:
        raise ValueError(f"a distribution tells {len(classes)} classes by name; {MOST_CLASSES_OF_MANY} are allowed")
    return _Form(histogram.told(plain.numbers), classes, *counts[:5])


def decode(encoded: bytes) -> Distribution:
    """Raises ValueError as :func:`told`."""
    other = told(encoded)
    found = Distribution(other.numbers.center, other.numbers.spread)
    found.merge(other)
    return found


_DECODER = msgspec.msgpack.Decoder(_Form[bytes])
