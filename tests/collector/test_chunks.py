"""The codec of chunks: exact for every bit pattern, small for training data, and closed to foreign blobs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from looptap_collector import chunks
from looptap_collector.chunks import DamagedChunk
from looptap_collector.testing.batches import same_bits

INT64 = st.integers(-(2**63), 2**63 - 1)


def training_data(count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    random = np.random.default_rng(0)
    times_ns = 1_800_000_000_000_000_000 + np.cumsum(random.normal(1e6, 5e4, count)).astype(np.int64)
    losses = 2.3 * np.exp(-np.arange(count) / 3e5) + random.normal(0, 0.05, count)
    return np.arange(count), times_ns, losses.astype(np.float32).astype(np.float64)


TORN = chunks.encode(*training_data(9))[:-5]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(INT64, INT64, INT64), max_size=60))
def test_round_trip_is_exact_for_every_bit_pattern(rows: list[tuple[int, int, int]]) -> None:
    """Any integers in any order and any 64 bits of a double come back as they were: NaN payloads, infinities,
    -0.0."""
    table = np.array(rows, dtype=np.int64).reshape(-1, 3)
    steps, times_ns, values = table[:, 0].copy(), table[:, 1].copy(), table[:, 2].copy().view(np.float64)
    decoded = chunks.decode(chunks.encode(steps, times_ns, values))
    assert all(same_bits(one, other) for one, other in zip(decoded, (steps, times_ns, values), strict=True))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(), min_size=1, max_size=200))
def test_round_trip_keeps_floats(floats: list[float]) -> None:
    """The doubles that Hypothesis likes to break things with come back to the bit."""
    values = np.array(floats)
    steps = np.arange(len(values))
    assert same_bits(chunks.decode(chunks.encode(steps, steps, values))[2], values)


@pytest.mark.parametrize("count", [2_048, chunks.MAX_POINTS])
def test_training_data_takes_less_than_ten_bytes_per_point(count: int) -> None:
    """Consecutive steps, times that jitter around a millisecond and losses that were float32."""
    blob = chunks.encode(*training_data(count))
    assert len(blob) / count < 10


def test_random_bits_take_hardly_more_than_they_are() -> None:
    """What cannot be compressed costs its 24 bytes per point and a little."""
    bits = np.random.default_rng(0).integers(-(2**63), 2**63 - 1, (3, 1_000))
    assert len(chunks.encode(bits[0], bits[1], bits[2].view(np.float64))) < 24 * 1_000 + 64


def test_unknown_version_is_told() -> None:
    """A blob of a later version names both versions."""
    blob = chunks.encode(*training_data(10))
    with pytest.raises(DamagedChunk, match="version 2; this looptap reads version 1"):
        chunks.decode(b"\x02" + blob[1:])


@pytest.mark.parametrize("position", range(0, 200, 7))
def test_a_flipped_bit_never_changes_a_value(position: int) -> None:
    """A damaged blob is refused; it never gives other numbers."""
    steps, times_ns, values = training_data(100)
    blob = bytearray(chunks.encode(steps, times_ns, values))
    blob[position % len(blob)] ^= 0x10
    try:
        decoded = chunks.decode(bytes(blob))
    except DamagedChunk:
        return
    assert all(same_bits(one, other) for one, other in zip(decoded, (steps, times_ns, values), strict=True))


@pytest.mark.parametrize("blob", [b"", b"\x01", b"\x01not zstd at all", TORN])
def test_what_is_no_chunk_is_refused(blob: bytes) -> None:
    """Empty, foreign and torn blobs raise DamagedChunk, nothing else."""
    with pytest.raises(DamagedChunk):
        chunks.decode(blob)


def test_a_bomb_is_refused_before_it_unfolds() -> None:
    """A small frame that claims more than a chunk may hold is not decompressed."""
    bomb = b"\x01" + zstandard.ZstdCompressor().compress(bytes(24 * (chunks.MAX_POINTS + 1)))
    with pytest.raises(DamagedChunk, match="claims a size"):
        chunks.decode(bomb)


def test_arrays_of_different_length_are_a_mistake_of_the_caller() -> None:
    """Lengths are compared before anything is encoded."""
    with pytest.raises(ValueError, match="one length"):
        chunks.encode(np.arange(3), np.arange(2), np.arange(3.0))
