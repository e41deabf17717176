"""The reader against damage: it believes nothing that it cannot check, and gives up nothing that it can."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import msgspec
import pytest

from agent.journal.scenes import contents, folder_of, new_writer, point, steps
from looptap.events import Points
from looptap.journal.folder import segments
from looptap.journal.frames import HEADER_BYTES, checksum_start, pack
from looptap.journal.reader import JournalReader, tail_position, unread


def only_segment(folder: Path) -> Path:
    (found,) = folder.glob("*.ltj")
    return found


def frame_starts(data: bytes) -> list[int]:
    """Where the frames of an undamaged segment begin, and where the last one ends; from the format's description alone."""
    starts = [HEADER_BYTES]
    while starts[-1] < len(data):
        (length,) = struct.unpack_from("<I", data, starts[-1] + 2)
        starts.append(starts[-1] + 22 + length)
    return starts


def test_torn_tail_costs_only_the_torn_frame(tmp_path: Path) -> None:
    """Cut at every byte of the last three frames, the journal still gives every frame before the cut (case 28)."""
    writer = new_writer(tmp_path / "journal", may_map=False)
    for step in range(20):
        writer.append(point(step))
    folder = folder_of(writer)
    path = only_segment(folder)
    data = path.read_bytes()
    starts = frame_starts(data)
    cuts = range(starts[-4], len(data) + 1)
    assert len(cuts) > 100
    for cut in cuts:
        path.write_bytes(data[:cut])
        whole = sum(end <= cut for end in starts[1:])
        found = contents(folder)
        assert [seq for seq, _, _ in found] == list(range(whole))
        assert tail_position(folder) == whole


def test_reader_follows_a_growing_segment_byte_by_byte(tmp_path: Path) -> None:
    """A reader that looks after every single byte sees each record once, when it is whole and not before."""
    writer = new_writer(tmp_path / "journal", may_map=False)
    for step in range(3):
        writer.append(point(step))
    folder = folder_of(writer)
    path = only_segment(folder)
    data = path.read_bytes()
    ends = frame_starts(data)[1:]
    reader = JournalReader(folder)
    found: list[int] = []
    for size in range(len(data) + 1):
        path.write_bytes(data[:size])
        found += [seq for seq, _, _ in reader.read(2**20)]
        assert found == list(range(sum(end <= size for end in ends)))


def test_flipped_bits_never_become_records(tmp_path: Path, times: Callable[[int], int]) -> None:
    """10,000 single flipped bits: each costs at most the frame that it hits, and nothing altered is delivered (case 29)."""
    writer = new_writer(tmp_path / "journal", segment_bytes=900)
    for step in range(24):
        writer.append(point(step))
    folder = folder_of(writer)
    intact = {path: path.read_bytes() for path in folder.glob("*.ltj")}
    assert len(intact) > 1
    truth = {seq: record for seq, _, record in contents(folder)}
    paths = sorted(intact)
    dice = random.Random(29)
    for _ in range(times(10_000)):
        path = dice.choice(paths)
        data = bytearray(intact[path])
        at = dice.randrange(len(data))
        data[at] ^= 1 << dice.randrange(8)
        path.write_bytes(data)
        found = {seq: record for seq, _, record in contents(folder)}
        path.write_bytes(intact[path])
        assert all(truth[seq] == record for seq, record in found.items())
        assert len(found) >= len(truth) - (at >= HEADER_BYTES)


def test_damage_of_any_length_is_passed_over(tmp_path: Path) -> None:
    """Stretches of zeros, garbage and missing bytes: what is whole on either side is delivered, in order."""
    writer = new_writer(tmp_path / "journal", segment_bytes=2000)
    for step in range(60):
        writer.append(point(step))
    folder = folder_of(writer)
    paths = sorted(folder.glob("*.ltj"))
    dice = random.Random(30)
    for _ in range(300):
        path = dice.choice(paths)
        data = path.read_bytes()
        starts = frame_starts(data)
        at = dice.randrange(len(data))
        length = dice.randrange(1, 400)
        filler = dice.choice([b"", bytes(length), dice.randbytes(length), dice.randbytes(length * 3)])
        path.write_bytes(data[:at] + filler + data[at + length :])
        found = steps(folder)
        path.write_bytes(data)
        hit = sum(start < at + length and end > at for start, end in zip(starts, starts[1:], strict=False))
        assert found == sorted(set(found))
        assert len(found) >= 60 - hit


@pytest.mark.parametrize("missing", range(4))
def test_missing_segment_is_a_gap(tmp_path: Path, missing: int) -> None:
    """A segment that is gone is never fatal: its numbers are missing and the rest is read."""
    writer = new_writer(tmp_path / "journal", segment_bytes=500)
    for step in range(60):
        writer.append(point(step))
    folder = folder_of(writer)
    found = segments(folder)
    gone = range(found[missing].first, found[missing + 1].first)
    (folder / found[missing].name).unlink()
    assert [seq for seq, _, _ in contents(folder)] == [seq for seq in range(61) if seq not in gone]
    assert tail_position(folder) == 61


def test_frame_of_another_journal_is_not_believed(tmp_path: Path) -> None:
    """Bytes of another journal that turn up in a file, as after a power loss, are not records of this one."""
    writer = new_writer(tmp_path / "journal")
    stranger = pack(1, 1, point(666), checksum_start("another"))
    with only_segment(folder_of(writer)).open("ab") as file:
        file.write(stranger)
    assert steps(folder_of(writer)) == []


def test_copy_of_a_frame_is_read_once(tmp_path: Path) -> None:
    """A frame that was written again after a failure, or an old one that came back, is not a second record."""
    writer = new_writer(tmp_path / "journal")
    folder = folder_of(writer)
    for step in range(3):
        writer.append(point(step))
    start = checksum_start(writer.journal)
    copies = b"".join(pack(seq, 1, point(seq - 1), start) for seq in (3, 1, 2, 3, 4))
    with only_segment(folder).open("ab") as file:
        file.write(copies)
    assert steps(folder) == [0, 1, 2, 3]


@pytest.mark.parametrize("version", [0, 1, 65_535])
def test_segment_of_another_version_is_kept(tmp_path: Path, version: int) -> None:
    """Reading stops in front of a format that we do not know; nothing of it is removed, and it counts as in the journal
    (case 31)."""
    writer = new_writer(tmp_path / "journal", segment_bytes=500)
    for step in range(40):
        writer.append(point(step))
    folder = folder_of(writer)
    foreign = segments(folder)[2]
    path = folder / foreign.name
    header = struct.pack("<6sH", b"LTAPJ\n", version)
    path.write_bytes(header + struct.pack("<I", crc32(header)) + path.read_bytes()[HEADER_BYTES:])
    reader = JournalReader(folder)
    found = [seq for seq, _, _ in reader.read(2**20)]
    assert found == list(range(foreign.first))
    assert reader.held is not None
    assert f"format {version}" in reader.held
    reader.commit(reader.next)
    assert segments(folder)[0] == foreign
    assert unread(folder, reader.next) == 41 - foreign.first
    assert reader.read(2**20) == []


def test_unknown_record_type_is_kept(tmp_path: Path) -> None:
    """Reading stops in front of a record type of the future: what a newer looptap can read must wait for it (case 31)."""
    writer = new_writer(tmp_path / "journal")
    writer.append(point(0))
    writer.append(msgspec.msgpack.encode({"type": "hologram", "time_ns": 1}))
    writer.append(msgspec.msgpack.encode(["spline", 1, 2]))
    writer.append(point(1))
    folder = folder_of(writer)
    reader = JournalReader(folder)
    assert [seq for seq, _, _ in reader.read(2**20)] == [0, 1]
    assert reader.held is not None
    assert "hologram" in reader.held
    reader.commit(reader.next)
    assert unread(folder, reader.next) == 3
    assert writer.position == 2 + 3


def test_commit_removes_only_what_is_delivered(tmp_path: Path) -> None:
    """A segment goes when all of it is safe and the next one exists; the live one never goes."""
    writer = new_writer(tmp_path / "journal", segment_bytes=500)
    for step in range(60):
        writer.append(point(step))
    folder = folder_of(writer)
    before = segments(folder)
    reader = JournalReader(folder)
    while reader.read(100):
        reader.commit(before[3].first + 1)
        left = segments(folder)
        assert left[-1] == before[-1]
        assert before[3] in left
    assert segments(folder) == before[3:]
    reader.commit(reader.next)
    assert segments(folder) == before[-1:]


def test_reading_starts_where_it_is_told(tmp_path: Path) -> None:
    """Records before the start are skipped, those from it on are all read."""
    writer = new_writer(tmp_path / "journal", segment_bytes=500)
    for step in range(60):
        writer.append(point(step))
    for start in range(62):
        found = contents(folder_of(writer), first=start)
        assert [seq for seq, _, _ in found] == list(range(start, 61))
        assert all(isinstance(record, Points) for seq, _, record in found if seq)
