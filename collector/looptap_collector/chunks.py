"""The encoding of a chunk: three columns of points in one blob, exact to the last bit.

Layout of version 1: one version byte, then one zstd frame (with its size and checksum) over the byte planes
of three columns of 64-bit words: steps, times, values. Steps and times are differences to the item before
(the first to zero, modulo 2**64) in zigzag form, so that small steps in either direction leave the high bytes
zero. The planes bring bytes of equal rank together: the constant ones cost nothing, and a float32 that was
widened to a double gives its padding back.
"""

from __future__ import annotations

import sys
import threading

import numpy as np
import numpy.typing as npt
import zstandard

Int64s = npt.NDArray[np.int64]
Float64s = npt.NDArray[np.float64]
_Words = npt.NDArray[np.uint64]
_Planes = npt.NDArray[np.uint8]

#: More points than this go into several chunks, which bounds what one read has to hold.
MAX_POINTS = 65_536
_VERSION = 1
_BYTES_PER_POINT = 24
# Level 1 is within 2 % of level 3 on byte planes, at half the time.
_LEVEL = 1

if sys.byteorder != "little":  # pragma: no cover
    raise ImportError("looptap keeps arrays as little-endian words and does not run on a big-endian machine")


class DamagedChunk(ValueError):
    """The blob is not a chunk that this version can read; the message says what is wrong with it."""


class _Codecs(threading.local):
    """zstd contexts are costly to make and not safe to share between threads."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
        self.decompressor = zstandard.ZstdDecompressor()


_codecs = _Codecs()


def encode(steps: Int64s, times_ns: Int64s, values: Float64s) -> bytes:
    """One blob of three arrays of one length, at most :data:`MAX_POINTS`. Any values in any order."""
    count = len(steps)
    if not count == len(times_ns) == len(values) or count > MAX_POINTS:
        raise ValueError(
            f"a chunk holds three arrays of one length up to {MAX_POINTS}, not "
            f"{count}, {len(times_ns)} and {len(values)}"
        )
    planes = np.empty((3, 8, count), dtype=np.uint8)
    for plane, words in zip(planes, (_zigzag(steps), _zigzag(times_ns), values), strict=True):
        plane[:] = np.ascontiguousarray(words).view(np.uint8).reshape(count, 8).T
    return bytes([_VERSION]) + _codecs.compressor.compress(planes.data)


def decode(blob: bytes) -> tuple[Int64s, Int64s, Float64s]:
    """The arrays that :func:`encode` was given. Raises :class:`DamagedChunk`."""
    if not blob:
        raise DamagedChunk("the chunk is empty")
    if blob[0] != _VERSION:
        raise DamagedChunk(f"the chunk has version {blob[0]}; this looptap reads version {_VERSION}")
    frame = memoryview(blob)[1:]
    try:
        # Looked at before anything is allocated: a crafted frame may claim any size.
        size = zstandard.frame_content_size(frame)
        if not 0 <= size <= MAX_POINTS * _BYTES_PER_POINT or size % _BYTES_PER_POINT:
            raise DamagedChunk(f"the chunk claims a size of {size} bytes")
        plain = _codecs.decompressor.decompress(frame) if size else b""
    except zstandard.ZstdError as error:
        raise DamagedChunk(f"the chunk does not decompress: {error}") from error
    count = size // _BYTES_PER_POINT
    planes = np.frombuffer(plain, dtype=np.uint8).reshape(3, 8, count)
    values = _words(planes[2]).view(np.float64)
    return _unzigzag(_words(planes[0])), _unzigzag(_words(planes[1])), values


def _words(planes: _Planes) -> _Words:
    words: _Words = np.ascontiguousarray(planes.T).reshape(-1).view(np.uint64)
    return words


def _zigzag(column: Int64s) -> _Words:
    words = np.ascontiguousarray(column).view(np.uint64)
    deltas = words.copy()
    deltas[1:] -= words[:-1]
    sign = (deltas.view(np.int64) >> 63).view(np.uint64)
    zigzag: _Words = (deltas << np.uint64(1)) ^ sign
    return zigzag


def _unzigzag(words: _Words) -> Int64s:
    sign = (~(words & np.uint64(1))) + np.uint64(1)
    deltas = (words >> np.uint64(1)) ^ sign
    return np.cumsum(deltas, dtype=np.uint64).view(np.int64)
