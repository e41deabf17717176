"""Doubles as integers of the same order."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from looptap_collector.doubles import double, exact

WORDS = st.integers(0, 2**64 - 1)


def of_bits(bits: int) -> float:
    (value,) = struct.unpack("<d", struct.pack("<Q", bits))
    return float(value)


@given(WORDS)
def test_every_bit_pattern_comes_back(bits: int) -> None:
    """Each of the 2**64 doubles has an integer of its own in the signed 64-bit range."""
    word = exact(of_bits(bits))
    assert -(2**63) <= word < 2**63
    assert struct.pack("<d", double(word)) == struct.pack("<Q", bits)


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_the_order_is_kept(one: float, other: float) -> None:
    """A smaller number has a smaller integer; -0.0 comes before 0.0."""
    if one < other:
        assert exact(one) < exact(other)
    assert exact(-0.0) < exact(0.0)


@given(st.integers(1, 2**52 - 1), st.booleans())
def test_nan_is_above_everything(payload: int, negative: bool) -> None:
    """Every NaN, of either sign, sorts above +Inf; -Inf is the lowest of all."""
    nan = of_bits((0xFFF if negative else 0x7FF) << 52 | payload)
    assert exact(nan) > exact(float("inf"))
    assert exact(float("-inf")) == -(2**63)
