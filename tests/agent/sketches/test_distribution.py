"""Streams of answers of every kind."""

from __future__ import annotations

import math
import random

import pytest

from looptap.sketches.distribution import MOST_CLASSES, Distribution, decode


def test_what_is_no_number_is_counted_apart() -> None:
    found = Distribution()
    found.add_numbers([1.0, math.nan, -2.0, math.inf, math.inf, -math.inf])
    found.add_classes(["cat", "dog", "cat"])
    found.add_null(4)
    assert (found.nan, found.above, found.below, found.null) == (1, 2, 1, 4)
    assert (found.numbers.min, found.numbers.max, len(found.numbers)) == (-2.0, 1.0, 2)
    assert found.classes == {"cat": 2, "dog": 1}
    assert len(found) == 13
    assert decode(found.encode()) == found


def test_pieces_are_the_whole() -> None:
    """Of classes and numbers, in any order, bit for bit."""
    chance = random.Random(5)
    numbers = [chance.gauss(0, 1) for _ in range(500)]
    names = [str(chance.randrange(50)) for _ in range(500)]
    whole, merged = Distribution(), Distribution()
    whole.add_numbers(numbers)
    whole.add_classes(names)
    pieces = []
    for at in range(0, 500, 10):
        piece = Distribution()
        piece.add_numbers(numbers[at : at + 10])
        piece.add_classes(names[at : at + 10])
        pieces.append(piece.encode())
    chance.shuffle(pieces)
    for encoded in pieces:
        merged.merge(decode(encoded))
    assert merged.encode() == whole.encode()


def test_more_classes_than_are_told() -> None:
    """The most frequent ones are told by name, the rest by their number."""
    found = Distribution()
    for index in range(MOST_CLASSES + 10):
        found.add_classes([f"class {index}"] * (1 + index))
    told = decode(found.encode())
    assert len(told) == len(found)
    assert len(told.classes) == MOST_CLASSES
    assert told.other == sum(range(1, 11))
    assert "class 10" in told.classes
    assert "class 9" not in told.classes


def test_what_is_no_distribution() -> None:
    for encoded in (b"", b"\x97", Distribution().encode()[:-1] + b"\xff"):
        with pytest.raises(ValueError):
            decode(encoded)
