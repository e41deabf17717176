"""Streams of answers of every kind."""

from __future__ import annotations

import math
import random

import msgspec
import pytest

from looptap.sketches.distribution import MOST_CLASSES, Distribution, decode, told


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
    again = decode(found.encode())
    assert len(again) == len(found)
    assert len(again.classes) == MOST_CLASSES
    assert again.other == sum(range(1, 11))
    assert "class 10" in again.classes
    assert "class 9" not in again.classes


def test_what_is_no_distribution() -> None:
    for encoded in (b"", b"\x97", Distribution().encode()[:-1] + b"\xff"):
        with pytest.raises(ValueError):
            decode(encoded)


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        (1, {"a": 0}, "a count that cannot be"),
        (1, {"a": -1}, "a count that cannot be"),
        (1, {"a": 2**49}, "a count that cannot be"),
        (1, {str(name): 1 for name in range(4_097)}, "4097 classes"),
        *((place, -1, "a count that cannot be") for place in range(2, 7)),
    ],
)
def test_what_cannot_be(place: int, value: object, reason: str) -> None:
    plain = msgspec.msgpack.decode(Distribution().encode())
    assert len(decode(msgspec.msgpack.encode(plain))) == 0
    plain[place] = value
    for read in (told, decode):
        with pytest.raises(ValueError, match=reason):
            read(msgspec.msgpack.encode(plain))
