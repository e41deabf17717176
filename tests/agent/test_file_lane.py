"""The lane of a run's files: what it shares with that of the points, and what not."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.journal.scenes import Store, meta, new_writer, point, start
from looptap.events import Artifact, File, RunEnded
from looptap.file_lane import FileLane, Telling, both
from looptap.journal.folder import find_journals
from looptap.journal.frames import encode
from looptap.journal.writer import JournalWriter
from looptap.sender import Sender


class Slow(Store):
    """Keeps a file as soon as it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may_keep = threading.Event()
        self.nice: list[int] = []

    def keep_file(self, file: File) -> Artifact:
        self.nice.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        assert self.may_keep.wait(30)
        return super().keep_file(file)


@pytest.fixture
def store() -> Iterator[Slow]:
    found = Slow()
    yield found
    found.may_keep.set()


@pytest.fixture
def lane(tmp_path: Path, store: Slow) -> FileLane:
    def open_journal() -> JournalWriter:
        journal = JournalWriter.create(tmp_path / "journal", meta(is_primary=False), may_map=False)
        journal.append(start())
        return journal

    return FileLane(open_journal, lambda journal: sender_of(journal, store, is_nice=True))


def sender_of(journal: JournalWriter, store: Store, is_nice: bool = False) -> Sender:
    sender = Sender(journal, "run-1", lambda: store, interval=0.01, is_nice=is_nice)
    sender.start()
    return sender


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def a_file(name: str = "a.pt") -> bytes:
    return encode(File(f"/nowhere/{name}", name, 1, 10, 1))


def test_nothing_before_the_first_file(lane: FileLane, tmp_path: Path) -> None:
    """A run without files has one journal and one sender."""
    assert lane.flush(0) is True
    assert lane.stop(0) is True
    assert not (tmp_path / "journal").exists()
    assert lane.opened is None


def test_points_pass_a_file(lane: FileLane, store: Slow, tmp_path: Path) -> None:
    """While a file is being kept the points go on; the end waits for the file no longer than it was told, then has it."""
    writer = new_writer(tmp_path / "points")
    points = sender_of(writer, store)
    lane.journal().append(a_file())
    wait_for(lambda: store.nice)
    for step in range(500):
        writer.append(point(step))
    assert points.flush(20)
    assert store.steps() == list(range(500))
    assert not both(points.flush, lane.flush, 0.05)
    store.may_keep.set()
    assert both(points.flush, lane.flush, 20)
    writer.append(encode(RunEnded("finished", 9)))
    lane.hurry(20)
    assert both(points.stop, lane.stop, 20)
    assert [record.name for record in store.records if isinstance(record, Artifact)] == ["a.pt"]
    assert find_journals(tmp_path / "journal") == []
    assert store.nice == [max(10, os.nice(0))]
    writer.close()


def test_what_is_not_delivered_stays(lane: FileLane, store: Slow, tmp_path: Path) -> None:
    """With a file that takes longer than the end of the program, its record is in the journal for the next command."""
    lane.journal().append(a_file())
    lane.hurry(0.1)
    assert lane.stop(0.1) is False
    assert len(find_journals(tmp_path / "journal")) == 1
    store.may_keep.set()


def test_an_outage_is_told_once() -> None:
    """Both senders find the store away, and back; the user hears each once."""
    told: list[str] = []
    telling = Telling(told.append)
    for line in ("away", "away", "back", "back", "away"):
        telling(line)
    assert told == ["away", "back", "away"]
