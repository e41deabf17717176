"""A double as a signed 64-bit integer of the same order: -Inf, …, -0.0, 0.0, …, +Inf, NaN. Every bit pattern has its own
integer, NaN payloads too (decision 0006)."""

from __future__ import annotations

import struct

_WORDS = 1 << 64
_HALF = 1 << 63
_NEGATIVE_NANS = (1 << 52) - 1


def exact(value: float) -> int:
    """The integer of a double; :func:`double` is its inverse."""
    (bits,) = struct.unpack("<Q", struct.pack("<d", value))
    # Negative numbers count downwards in their bits; turned over, the patterns are in order from the negative
    # NaNs upwards.
    ordered = bits + _HALF if bits < _HALF else _WORDS - 1 - bits
    # 0.0 / 0.0 is a negative NaN on x86: a turn of the circle puts those at the top, beside the others.
    return int((ordered - _NEGATIVE_NANS) % _WORDS - _HALF)


def double(word: int) -> float:
    """The double that :func:`exact` made this integer of."""
    ordered = (word + _HALF + _NEGATIVE_NANS) % _WORDS
    bits = ordered - _HALF if ordered >= _HALF else _WORDS - 1 - ordered
    (value,) = struct.unpack("<d", struct.pack("<Q", bits))
    return float(value)
