"""Points in cells: as exact and as safe as frames."""

from __future__ import annotations

import math
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.journal.scenes import (
    NO_CONTEXT,
    contents,
    folder_of,
    in_cells,
    new_writer,
    numbers,
    only_segment,
    point,
    point_bytes,
    put,
    steps,
)
from looptap.events import Cells, Note, Points
from looptap.journal import cells
from looptap.journal.cells import BLOCK_CELLS, CELL_BYTES, KEYS_LIMIT, Shape
from looptap.journal.folder import segments
from looptap.journal.frames import encode, is_cells
from looptap.journal.reader import JournalReader, tail_position
from looptap.recorder import Recorder
from looptap.redaction import Redactor

pytestmark = pytest.mark.usefixtures("mapped")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(-(2**63), 2**63 - 1),
            st.dictionaries(st.sampled_from(["loss", "lr", "Grüße", "a" * 300]), st.floats(), min_size=1),
            st.sampled_from([{}, {"optimizer": "D"}, {"optimizer": "G"}]),
        ),
        max_size=80,
    )
)
def test_what_goes_in_comes_out(tmp_path_factory: pytest.TempPathFactory, written: list[Any]) -> None:
    """Every step, key, context and value to the last bit; NaN, ±Inf, −0.0 and subnormals too; in order."""
    writer = new_writer(tmp_path_factory.mktemp("cells") / "journal")
    expected = []
    for step, values, context in written:
        done = writer.put(values, step, step ^ 1, context)
        if done < len(values):
            writer.append_points(dict(list(values.items())[done:]), step, step ^ 1, context)
        expected += [(step, step ^ 1, key, struct.pack("<d", value), context) for key, value in values.items()]
    folder = folder_of(writer)
    assert point_bytes(folder) == expected
    writer.close()
    assert point_bytes(folder) == expected
    assert numbers(folder) == list(range(1 + len(expected)))


def test_a_record_is_there_when_put_has_returned(tmp_path: Path) -> None:
    """Another reader finds each point at once, with the number that it was given."""
    writer = new_writer(tmp_path / "journal")
    reader = JournalReader(folder_of(writer))
    assert len(reader.read(2**20)) == 1
    for step in range(2 * BLOCK_CELLS):
        put(writer, step)
        assert [seq for seq, _, _ in reader.read(2**20)] == [step + 1]
        assert writer.position == step + 2
    assert tail_position(folder_of(writer)) == 2 * BLOCK_CELLS + 1


def test_other_records_come_in_between(tmp_path: Path) -> None:
    """A frame ends the block, and the next points open another: everything in order, nothing twice, no hole."""
    writer = new_writer(tmp_path / "journal")
    dice = random.Random(3)
    expected: list[int] = []
    for number in range(3000):
        if dice.random() < 0.02:
            writer.append(encode(Note("n", str(number), number)))
            expected.append(-number)
        else:
            put(writer, number, NO_CONTEXT, **{f"m{dice.randrange(4)}": 0.5})
            expected.append(number)
    folder = folder_of(writer)
    writer.close()
    found = [-int(r.message) if isinstance(r, Note) else r.step for _, _, r in contents(folder)[1:]]  # type: ignore[union-attr]
    assert found == expected
    assert numbers(folder) == list(range(3001))
    # A block that is cut short all the time would cost more than it saves.
    blocks = only_segment(folder).read_bytes().count(b"\xa4type\xa5cells")
    assert 2 < blocks < 60


def test_more_series_than_a_block_can_name(tmp_path: Path) -> None:
    """Beyond the limit points are frames; those that are known stay in cells."""
    writer = new_writer(tmp_path / "journal")
    for step in range(3 * KEYS_LIMIT):
        put(writer, step, NO_CONTEXT, **{f"m{step}": 0.5})
        put(writer, step, {"of": str(step)}, loss=0.5)
    in_cells(writer, 100, m0=1.0)
    assert numbers(folder_of(writer)) == list(range(1 + 6 * KEYS_LIMIT + 100))


def test_an_equal_context_is_the_same_series(tmp_path: Path) -> None:
    """A new dict each time neither fills the table nor ends the block."""
    writer = new_writer(tmp_path / "journal")
    for step in range(400):
        put(writer, step, {"group": "1"}, lr=0.5)
    data = only_segment(folder_of(writer)).read_bytes()
    assert data.count(b"\xa4type\xa5cells") == 1
    assert steps(folder_of(writer)) == list(range(400))


def test_values_that_are_no_floats_take_the_long_way(tmp_path: Path) -> None:
    """An int is written as a frame; what cannot be a number raises, and takes no number of the journal."""
    writer = new_writer(tmp_path / "journal")
    in_cells(writer, 3)
    put(writer, 3, loss=5)
    with pytest.raises(TypeError):
        writer.append_points({"loss": object()}, 4, 1, {})  # type: ignore[dict-item]
    put(writer, 5)
    assert steps(folder_of(writer)) == [0, 1, 2, 3, 5]
    assert numbers(folder_of(writer)) == list(range(6))


def test_an_odd_value_among_others(tmp_path: Path) -> None:
    """A float of another class, at any place and time: each point is there once, whatever the way that it took."""

    class Odd(float):
        pass

    writer = new_writer(tmp_path / "journal")
    recorder = Recorder(lambda: writer, Redactor())
    recorder.attach(writer)
    for step in range(200):
        values = {"loss": 0.5, "lr": Odd(0.1) if step % 7 == 0 else 0.1, "step_time": 0.25}
        recorder.metrics(values, step)
    found = [(step, key) for step, _, key, *_ in point_bytes(folder_of(writer))]
    assert sorted(found) == sorted((step, key) for step in range(200) for key in ("loss", "lr", "step_time"))
    assert writer.dropped == {}


def test_segments_roll_over(tmp_path: Path) -> None:
    """A segment ends when it is full, with its last cell; the next one can be read on its own."""
    writer = new_writer(tmp_path / "journal", segment_bytes=50_000)
    for step in range(10_000):
        put(writer, step)
    folder = folder_of(writer)
    writer.close()
    assert len(segments(folder)) > 4
    assert steps(folder) == list(range(10_000))
    last = segments(folder)[-1]
    assert [record.step for _, _, record in contents(folder, first=last.first) if isinstance(record, Points)] == list(
        range(last.first - 1, 10_000)
    )
    for segment in segments(folder):
        assert not (folder / segment.name).read_bytes().endswith(bytes(CELL_BYTES))


def test_rows_that_meet_the_end_of_a_block(tmp_path: Path) -> None:
    """The cells that are left take the first values, and the next block the others: each once, under its own number."""
    writer = new_writer(tmp_path / "journal")
    keys = [f"m{index}" for index in range(7)]
    for step in range(3 * BLOCK_CELLS):
        put(writer, step, NO_CONTEXT, **{key: step + index / 8 for index, key in enumerate(keys)})
    folder = folder_of(writer)
    written = [(step, key, step + index / 8) for step in range(3 * BLOCK_CELLS) for index, key in enumerate(keys)]
    assert [(step, key, struct.unpack("<d", value)[0]) for step, _, key, value, _ in point_bytes(folder)] == written
    assert numbers(folder) == list(range(1 + len(written)))
    assert only_segment(folder).read_bytes().count(b"\xa4type\xa5cells") == math.ceil(len(written) / BLOCK_CELLS)


def test_reading_starts_in_the_middle_of_a_block(tmp_path: Path) -> None:
    writer = new_writer(tmp_path / "journal")
    in_cells(writer, 60)
    for start in range(62):
        assert [seq for seq, _, _ in contents(folder_of(writer), first=start)] == list(range(start, 61))


# --- damage -----------------------------------------------------------------------------------------------------------


def test_flipped_bits_never_alter_a_value(tmp_path: Path, times: Callable[[int], int]) -> None:
    """Case 29: any bit of the file flips; what is still read is right, and one flip costs one row, one block or nothing."""
    writer = new_writer(tmp_path / "journal")
    values = [0.1, -0.0, math.nan, math.inf, 1e-310, -1.0, 2.0]
    for step in range(-300, 300):
        put(writer, step, loss=values[step % 7], lr=values[step % 3])
    folder = folder_of(writer)
    writer.close()
    path = only_segment(folder)
    whole, good = path.read_bytes(), point_bytes(folder)
    known, dice = set(map(repr, good)), random.Random(29)
    at_most = BLOCK_CELLS + 1
    for _ in range(times(2000)):
        data = bytearray(whole)
        place = dice.randrange(len(data) * 8)
        data[place // 8] ^= 1 << place % 8
        path.write_bytes(data)
        found = point_bytes(folder)
        assert {repr(item) for item in found} <= known
        assert len(found) >= len(good) - at_most
    path.write_bytes(whole)
    start, lost = whole.index(b"\xa4type\xa5cells") + 100, 0
    for place in range(start * 8, (start + 2 * CELL_BYTES) * 8):
        data = bytearray(whole)
        data[place // 8] ^= 1 << place % 8
        path.write_bytes(data)
        found = point_bytes(folder)
        assert {repr(item) for item in found} <= known
        assert len(found) in (len(good), len(good) - 2)
        lost += len(found) < len(good)
    assert lost == 8 * (Shape.of(2).size + 8)  # the rest of its cells is empty


def test_torn_at_every_byte(tmp_path: Path) -> None:
    """Case 28: cut off anywhere in the last cells, all before the cut is there, and nothing else."""
    writer = new_writer(tmp_path / "journal")
    in_cells(writer, 200)
    folder = folder_of(writer)
    writer.close()
    path = only_segment(folder)
    whole = path.read_bytes()
    for cut in range(3 * CELL_BYTES + 1):
        path.write_bytes(whole[: len(whole) - cut])
        assert steps(folder) == list(range(200 - math.ceil(cut / CELL_BYTES)))


def test_lost_pages(tmp_path: Path) -> None:
    """Case 30: pages that power loss has emptied take their own points along and no others."""
    writer = new_writer(tmp_path / "journal")
    in_cells(writer, 2000)
    folder = folder_of(writer)
    writer.close()
    path = only_segment(folder)
    whole, dice = path.read_bytes(), random.Random(30)
    for _ in range(300):
        data = bytearray(whole)
        for page in range(0, len(data), 4096):
            if dice.random() < 0.2:
                data[page : page + 4096] = bytes(len(data[page : page + 4096]))
        path.write_bytes(data)
        found = [
            (record.step, record.values["loss"]) for _, _, record in contents(folder) if isinstance(record, Points)
        ]
        assert found == [(step, step / 7) for step, _ in found]
        assert [step for step, _ in found] == sorted({step for step, _ in found})


def test_cells_of_another_journal_are_not_believed(tmp_path: Path) -> None:
    """Blocks that a file system shows in the wrong file hold no points here."""
    one, other = new_writer(tmp_path / "one"), new_writer(tmp_path / "other")
    in_cells(one, 50)
    in_cells(other, 50)
    one.close()
    other.close()
    path, strange = only_segment(folder_of(one)), only_segment(folder_of(other))
    start = path.read_bytes().index(b"\xa4type\xa5cells") + 60
    path.write_bytes(path.read_bytes()[:start] + strange.read_bytes()[start:])
    assert steps(folder_of(one)) == []


def test_a_python_that_hashes_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It writes frames; and cells that it cannot check stay where they are until somebody comes who can."""
    writer = new_writer(tmp_path / "journal")
    in_cells(writer, 30)
    folder = folder_of(writer)
    writer.close()
    monkeypatch.setattr(cells, "_HASHES_AS_EXPECTED", False)
    reader = JournalReader(folder)
    reader.read(2**20)
    assert reader.held is not None
    assert reader.next < 31
    frames = new_writer(tmp_path / "frames")
    for step in range(30):
        put(frames, step)
    assert frames.put is cells.no_cell
    assert steps(folder_of(frames)) == list(range(30))


def test_without_room_for_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no window can be allocated, points are frames from there on."""
    writer = new_writer(tmp_path / "journal", segment_bytes=40_000)
    in_cells(writer, 600)

    def full(fd: int, start: int, length: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    for step in range(600, 2000):
        put(writer, step)
    assert writer.put is cells.no_cell
    assert steps(folder_of(writer)) == list(range(2000))


def test_a_block_is_told_by_its_first_bytes() -> None:
    assert is_cells(encode(Cells(5, ((("loss",), {}),))))
    assert not is_cells(point(1))
    assert not is_cells(encode(Note("cells", "type", 1)))


def test_points_of_two_calls_that_take_turns_share_a_block(tmp_path: Path) -> None:
    """One of them alone must not open every block, which the other then has to cut short."""
    writer = new_writer(tmp_path / "journal")
    row, alone, context = {f"time.{index}": 0.5 for index in range(7)}, {"accuracy": 0.25}, dict[str, str]()
    taken = 0
    for step in range(200):
        for values in (row, alone, row):
            done = writer.put(values, step, 1_000_000 + step, context)
            taken += done
            if done < len(values):
                writer.append_points(dict(list(values.items())[done:]), step, 1_000_000 + step, context)
    assert taken > 0.8 * 200 * 15
