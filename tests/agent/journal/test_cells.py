"""Points in cells: as exact, as safe and as well counted as frames, whoever comes in between."""

from __future__ import annotations

import math
import os
import random
import signal
import struct
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.journal.scenes import (
    NO_CONTEXT,
    RUN,
    Store,
    assert_conserved,
    contents,
    folder_of,
    new_writer,
    point,
    put,
    steps,
)
from looptap.events import Cells, Note, Points
from looptap.journal import cells
from looptap.journal.cells import BLOCK_CELLS, CELL_BYTES, SERIES_LIMIT, are_possible
from looptap.journal.courier import Courier
from looptap.journal.folder import segments
from looptap.journal.frames import encode, is_cells
from looptap.journal.reader import JournalReader, tail_position
from looptap.journal.window import can_map
from looptap.journal.writer import JournalWriter
from looptap.recorder import Recorder
from looptap.redaction import Redactor


@pytest.fixture(autouse=True)
def possible(tmp_path: Path) -> None:
    if not can_map(tmp_path):
        pytest.skip("the file system of the test folder is none that is mapped")
    assert are_possible()


def in_cells(writer: JournalWriter, count: int, **values: float) -> None:
    """Steps 0 … count - 1; asserts that they really went into cells."""
    for step in range(count):
        put(writer, step, NO_CONTEXT, **values)
    assert writer.put is not cells.no_cell


def points(folder: Path) -> list[tuple[int, int, str, bytes, dict[str, str]]]:
    """(step, time, key, the value's bytes, context): NaN is equal to itself here."""
    return [
        (record.step, record.time_ns, key, struct.pack("<d", value), record.context)
        for _, _, record in contents(folder)
        if isinstance(record, Points)
        for key, value in record.values.items()
    ]


def numbers(folder: Path) -> list[int]:
    return [number for seq, takes, _ in contents(folder) for number in range(seq, seq + takes)]


def only_segment(folder: Path) -> Path:
    (segment,) = segments(folder)
    return folder / segment.name


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
    assert points(folder) == expected
    writer.close()
    assert points(folder) == expected
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
    for step in range(3 * SERIES_LIMIT):
        put(writer, step, NO_CONTEXT, **{f"m{step}": 0.5})
        put(writer, step, {"of": str(step)}, loss=0.5)
    in_cells(writer, 100, m0=1.0)
    assert numbers(folder_of(writer)) == list(range(1 + 6 * SERIES_LIMIT + 100))


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
    found = [(step, key) for step, _, key, *_ in points(folder_of(writer))]
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


def test_reading_starts_in_the_middle_of_a_block(tmp_path: Path) -> None:
    writer = new_writer(tmp_path / "journal")
    in_cells(writer, 60)
    for start in range(62):
        assert [seq for seq, _, _ in contents(folder_of(writer), first=start)] == list(range(start, 61))


# --- damage -----------------------------------------------------------------------------------------------------------


def test_flipped_bits_never_alter_a_value(tmp_path: Path) -> None:
    """Case 29: any bit of the file flips; what is still read is right, and one flip costs one point or one block."""
    writer = new_writer(tmp_path / "journal")
    values = [0.1, -0.0, math.nan, math.inf, 1e-310, -1.0, 2.0]
    for step in range(-300, 300):
        put(writer, step, loss=values[step % 7], lr=values[step % 3])
    folder = folder_of(writer)
    writer.close()
    path = only_segment(folder)
    whole, good = path.read_bytes(), points(folder)
    known, dice = set(map(repr, good)), random.Random(29)
    at_most = BLOCK_CELLS + 1
    for _ in range(2000):
        data = bytearray(whole)
        place = dice.randrange(len(data) * 8)
        data[place // 8] ^= 1 << place % 8
        path.write_bytes(data)
        found = points(folder)
        assert {repr(item) for item in found} <= known
        assert len(found) >= len(good) - at_most
    path.write_bytes(whole)
    start = whole.index(b"\xa4type\xa5cells") + 100
    for place in range(start * 8, (start + 2 * CELL_BYTES) * 8):
        data = bytearray(whole)
        data[place // 8] ^= 1 << place % 8
        path.write_bytes(data)
        found = points(folder)
        assert {repr(item) for item in found} <= known
        assert len(found) == len(good) - 1


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


# --- whoever comes in between -----------------------------------------------------------------------------------------


def deliver(writer: JournalWriter, store: Store) -> Courier:
    reader = JournalReader(folder_of(writer), journal=writer.journal)
    courier = Courier(RUN, writer.journal, store, reader, writer)
    while courier.deliver_next():
        pass
    return courier


def test_threads(tmp_path: Path) -> None:
    """Five threads put, one appends frames, one delivers meanwhile: each record once, conserved to the last."""
    writer, store = new_writer(tmp_path / "journal", segment_bytes=60_000), Store()
    courier = Courier(RUN, writer.journal, store, JournalReader(folder_of(writer)), writer)
    is_over = threading.Event()

    def train(name: str) -> None:
        for step in range(4000):
            put(writer, step, NO_CONTEXT, **{name: float(step)})

    def tell() -> None:
        for number in range(300):
            writer.append(encode(Note("n", str(number), number)))

    def send() -> None:
        while not is_over.is_set():
            courier.deliver_next()

    workers = [threading.Thread(target=train, args=(f"m{index}",)) for index in range(5)]
    workers.append(threading.Thread(target=tell))
    sender = threading.Thread(target=send)
    for thread in [*workers, sender]:
        thread.start()
    for thread in workers:
        thread.join()
    is_over.set()
    sender.join()
    while courier.deliver_next():
        pass
    for index in range(5):
        assert [step for key, step, _ in store.points if key == f"m{index}"] == list(range(4000))
    assert [record.message for record in store.records if isinstance(record, Note)] == list(map(str, range(300)))
    assert courier.position == writer.position
    assert_conserved(writer.position, store, writer.journal)
    assert store.dropped[writer.journal] == {}


def test_signal_handler_records_in_the_middle(tmp_path: Path) -> None:
    """A handler that puts and appends, at any instruction of a put or of the opening of a block, disturbs nothing."""
    writer = new_writer(tmp_path / "journal", segment_bytes=60_000)
    heard: list[int] = []

    def handler(*_: object) -> None:
        number = len(heard)
        heard.append(number)
        put(writer, number, handler=1.0)
        if number % 3 == 0:
            writer.append(encode(Note("n", str(number), number)))

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
    try:
        count = 0
        while len(heard) < 2000:
            put(writer, count, loss=1.0, lr=2.0)
            count += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    writer.close()
    found = points(folder_of(writer))
    assert [step for step, _, key, *_ in found if key == "loss"] == list(range(count))
    assert [step for step, _, key, *_ in found if key == "lr"] == list(range(count))
    # A handler may be interrupted by the next one.
    assert sorted(step for step, _, key, *_ in found if key == "handler") == heard
    notes = [record for _, _, record in contents(folder_of(writer)) if isinstance(record, Note)]
    assert len(notes) == len(range(0, len(heard), 3))
    assert writer.position == len(numbers(folder_of(writer)))


def test_interrupted_between_taking_and_filling(tmp_path: Path) -> None:
    """Ctrl-C in the middle of a put: that point is counted as lost, and all others go on."""
    writer, store = new_writer(tmp_path / "journal"), Store()
    in_cells(writer, 40)
    block = writer._block
    assert block is not None
    next(block._cells)
    for step in range(40, 80):
        put(writer, step)
    next(block._cells)
    courier = deliver(writer, store)
    assert store.steps() == list(range(80))
    assert courier.position == writer.position == 83
    assert store.stored[writer.journal] == 81


def test_nobody_reads_past_a_cell_that_is_being_filled(tmp_path: Path) -> None:
    """A thread has taken a cell and comes to fill it a moment later, when other threads have gone on: it is delivered."""
    writer, store = new_writer(tmp_path / "journal"), Store()
    in_cells(writer, 40)
    block = writer._block
    assert block is not None
    at = next(block._cells)
    put(writer, 41)
    assert any(block._memory[at - cells.CELL_BYTES : at])

    def fill() -> None:
        check = hash((block._tag + at - block._offset, 0, 40, 1_000_040, 40 / 7))
        block._memory[at : at + cells.CELL_BYTES] = struct.pack("<Qqqdq", 0, 40, 1_000_040, 40 / 7, check)

    late = threading.Timer(0.02, fill)
    late.start()
    deliver(writer, store)
    late.join()
    assert store.steps() == list(range(42))
    assert_conserved(writer.position, store, writer.journal)


def test_a_forked_child_leaves_the_parents_block_alone(tmp_path: Path) -> None:
    """The mapping is shared after a fork; the child's points go nowhere near it."""
    writer = new_writer(tmp_path / "journal")
    in_cells(writer, 30)
    child = os.fork()
    if child == 0:
        try:
            writer.abandon_in_child()
            for step in range(1000, 1030):
                put(writer, step)
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    for step in range(30, 60):
        put(writer, step)
    assert steps(folder_of(writer)) == list(range(60))


def test_a_put_that_comes_too_late_goes_the_long_way(tmp_path: Path) -> None:
    """Who still holds the put of a block that has been closed gets nothing in, and hands the points over."""
    writer = new_writer(tmp_path / "journal")
    in_cells(writer, 30)
    late = writer.put
    writer.append(point(30))
    assert late({"loss": 1.0}, 31, 1, {}) == 0
    writer.close()
    assert late({"loss": 1.0}, 31, 1, {}) == 0
    writer.append_points({"loss": 1.0}, 31, 1, {})
    assert steps(folder_of(writer)) == list(range(31))
    assert writer.dropped == {"closed": 1}


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
    assert is_cells(encode(Cells(5, (("loss", {}),))))
    assert not is_cells(point(1))
    assert not is_cells(encode(Note("cells", "type", 1)))


def test_points_of_two_calls_that_take_turns_share_a_block(tmp_path: Path) -> None:
    """One of them alone must not open every block, which the other then has to cut short."""
    writer = new_writer(tmp_path / "journal")
    row, alone, context = {f"time.{index}": 0.5 for index in range(7)}, {"accuracy": 0.25}, dict[str, str]()
    in_cells = 0
    for step in range(200):
        for values in (row, alone, row):
            done = writer.put(values, step, 1_000_000 + step, context)
            in_cells += done
            if done < len(values):
                writer.append_points(dict(list(values.items())[done:]), step, 1_000_000 + step, context)
    assert in_cells > 0.8 * 200 * 15
