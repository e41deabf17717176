"""The fingerprint of an array, and that of several together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

#: Weights of more bytes are known by their file only: whoever reads them has something else to do.
MOST_BYTES = 2 * 2**30
#: Bytes of a number, by the name of its type.
SIZES = {
    **dict.fromkeys(("bool", "int8", "uint8", "float8_e4m3fn", "float8_e5m2"), 1),
    **dict.fromkeys(("int16", "uint16", "float16", "bfloat16"), 2),
    **dict.fromkeys(("int32", "uint32", "float32"), 4),
    **dict.fromkeys(("int64", "uint64", "float64", "complex64"), 8),
    "complex128": 16,
}


def size_bytes(dtype: str, shape: Sequence[int]) -> int:
    """Raises KeyError for a type that nobody knows."""
    return SIZES[dtype] * prod(shape)


def of_array(dtype: str, shape: Sequence[int], pieces: Iterable[Any]) -> bytes:
    """``pieces`` are its numbers as bytes, little-endian, the last dimension fastest."""
    found = hashlib.sha256(f"{dtype}{list(shape)}\n".encode())
    for piece in pieces:
        found.update(piece)
    return found.digest()


def of_all(arrays: Iterable[bytes]) -> str | None:
    """SHA-256 in hex; None of no arrays."""
    every = sorted(set(arrays))
    return hashlib.sha256(b"".join(every)).hexdigest() if every else None
