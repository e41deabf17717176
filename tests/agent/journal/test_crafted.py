"""Segments that somebody made up, checksums and all. Whoever can write into a journal is its owner, and still must not bring a
sender down or make it believe in numbers that go backwards."""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from looptap.events import Cells, Points
from looptap.journal.frames import checksum_start, pack, pack_header
from looptap.journal.reader import JournalReader

START = checksum_start("crafted")
FUZZED = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))

numbers = st.integers(0, 3) | st.integers(0, 2**64 - 1)
payloads = st.one_of(
    st.binary(max_size=60),
    st.just(b"\x91" * 100_000),  # nested as deep
    st.just(b"\xdd\xff\xff\xff\xff"),  # so many items, says it
    st.builds(
        lambda step, values: msgspec.msgpack.encode(Points(step, 1, values)),
        st.integers(-(2**63), 2**63 - 1),
        st.dictionaries(st.text(max_size=3), st.floats(), max_size=3),
    ),
    st.builds(lambda count: msgspec.msgpack.encode(Cells(count, ((("loss",), {}),))), st.integers(-(2**63), 2**63 - 1)),
)
frames = st.builds(
    lambda seq, count, payload: pack(seq, count, payload, START), numbers, st.integers(0, 2**32 - 1), payloads
)
pieces = st.one_of(frames, st.binary(max_size=40), st.just(bytes(64)))


def read_all(content: bytes) -> list[int]:
    """The numbers of all records, read as a sender does."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / f"{0:020}.ltj").write_bytes(content)
        reader = JournalReader(Path(folder), journal="crafted")
        found: list[int] = []
        while some := reader.read(1 << 20):
            for seq, takes, _ in some:
                assert takes >= 0
                assert not found or seq >= found[-1]
                found.append(seq)
            assert reader.next < 2**65
        return found


@FUZZED
@given(content=st.binary(max_size=400))
def test_bytes_are_not_records(content: bytes) -> None:
    """Any bytes: an end, never an error, and nothing that they did not hold."""
    assert read_all(content) == []
    assert read_all(pack_header() + content) == []


@FUZZED
@given(made=st.lists(pieces, max_size=6))
def test_frames_with_the_right_checksum(made: list[bytes]) -> None:
    """Any numbers, counts and payloads under a checksum that is right, between other bytes: the reader comes to an end, in
    order, with at most one record for each frame."""
    assert len(read_all(pack_header() + b"".join(made))) <= 64 * len(made)
