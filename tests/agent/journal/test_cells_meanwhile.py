"""Points in cells while others are at work: threads, signal handlers, a forked child."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from agent.journal.scenes import (
    NO_CONTEXT,
    RUN,
    Store,
    assert_conserved,
    contents,
    folder_of,
    in_cells,
    new_writer,
    numbers,
    point,
    point_bytes,
    put,
    steps,
)
from looptap.events import Note
from looptap.journal import cells
from looptap.journal.cells import Shape
from looptap.journal.courier import Courier
from looptap.journal.frames import encode
from looptap.journal.reader import JournalReader
from looptap.journal.writer import JournalWriter

pytestmark = pytest.mark.usefixtures("mapped")


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
    found = point_bytes(folder_of(writer))
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
        shape = Shape.of(1)
        row = shape.pack(0, 1, 40, 1_000_040, 40 / 7)
        shape.store(block._memory, at, row, hash((block._tag + at - block._offset, shape.words(row))))

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
