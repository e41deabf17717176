"""Power loss at any instant (case 30): what the disk had not been asked to keep may be missing, in any combination.

A run is recorded once, with real files: every write, fsync, rename and unlink that writer and sender make, in order, and every
answer of the store. A *schedule* cuts that story at a random instant and takes away any subset of what was not yet
durable: whole writes, ends of writes, names in folders. What is left is put on a real disk and adopted by the code that a
user's next command runs.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent.journal.scenes import RUN, Store, folder_of, meta, point, start
from looptap.adoption import deliver_abandoned
from looptap.events import Batch, File, RunEnded
from looptap.journal.courier import Courier
from looptap.journal.folder import META, find_journals, make_durable
from looptap.journal.frames import FRAME_MAGIC, encode
from looptap.journal.reader import JournalReader
from looptap.journal.writer import JournalWriter

SEGMENT_BYTES = 600


@dataclass
class Event:
    """One thing that happened. ``what`` is write, sync (of a file), name, unname, sync_names, or ack."""

    what: str
    path: str = ""
    file: int = -1
    offset: int = 0
    data: bytes = b""
    step: int = -1
    position: int = 0


@dataclass
class Story:
    events: list[Event] = field(default_factory=list)
    journal: str = ""
    steps: int = 0


class Recorder:
    """Stands beside the real system calls and notes those that touch the journal's folder."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.files: dict[int, tuple[int, int]] = {}  # descriptor → number of the file, its size
        self.named: dict[str, int] = {}  # where files lie now
        self.count = 0
        self.step = -1

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real: dict[str, Callable[..., Any]] = {
            name: getattr(os, name) for name in ("open", "write", "fsync", "rename", "replace", "unlink", "close")
        }

        def open_(path: Any, flags: int, mode: int = 0o777, **more: Any) -> int:
            fd: int = real["open"](path, flags, mode, **more)
            name = os.path.basename(os.fspath(path))
            if flags & (os.O_CREAT | os.O_TRUNC):
                self.count += 1
                self.named[name] = self.count
                self.story.events.append(Event("name", name, self.count))
                self.files[fd] = (self.count, 0)
            else:
                self.files[fd] = (self.named.get(name, -1), 0)
            return fd

        def write(fd: int, data: bytes) -> int:
            size: int = real["write"](fd, data)
            if fd in self.files:
                file, end = self.files[fd]
                # The header of a new segment is written during an append too, but is not its record.
                step = self.step if data.startswith(FRAME_MAGIC) else -1
                self.story.events.append(Event("write", file=file, offset=end, data=bytes(data[:size]), step=step))
                self.files[fd] = (file, end + size)
            return size

        def fsync(fd: int) -> None:
            real["fsync"](fd)
            file = self.files[fd][0]
            self.story.events.append(Event("sync", file=file) if file >= 0 else Event("sync_names"))

        def rename(source: Any, target: Any) -> None:
            real["rename"](source, target)
            old, new = (os.path.basename(os.fspath(path)) for path in (source, target))
            if old in self.named:
                self.named[new] = self.named.pop(old)
                self.story.events += [Event("name", new, self.named[new]), Event("unname", old)]

        def unlink(path: Any) -> None:
            real["unlink"](path)
            name = os.path.basename(os.fspath(path))
            del self.named[name]
            self.story.events.append(Event("unname", name))

        def close(fd: int) -> None:
            self.files.pop(fd, None)
            real["close"](fd)

        for name, replacement in {
            "open": open_,
            "write": write,
            "fsync": fsync,
            "rename": rename,
            "replace": rename,
            "unlink": unlink,
            "close": close,
        }.items():
            monkeypatch.setattr(os, name, replacement)


@pytest.fixture
def story(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Story:
    """A run of 120 steps in small segments, delivered now and then; the sender keeps up, falls behind and catches up."""
    story = Story()

    class Telling(Store):
        def deliver(self, batch: Batch) -> None:
            super().deliver(batch)
            story.events.append(Event("ack", position=self.next[batch.journal], step=len(self.points)))

    with monkeypatch.context() as patch:
        recorder = Recorder(story)
        recorder.install(patch)
        writer = JournalWriter.create(tmp_path / "journal", meta(), segment_bytes=SEGMENT_BYTES, may_map=False)
        writer.append(start())
        folder = folder_of(writer)
        make_durable(folder)
        courier = Courier(RUN, writer.journal, Telling(), JournalReader(folder), writer)
        for step in range(120):
            recorder.step = step
            writer.append(point(step))
            recorder.step = -1
            if step % 5 == 3:  # before a file a batch ends, so what was read and what is stored are often apart
                writer.append(encode(File("/nowhere/model.pt", "model.pt", step, 1, 1)))
            if step % 7 == 0 and not 40 < step < 80:
                while courier.deliver_next():
                    pass
        story.journal, story.steps = writer.journal, 120
        writer.close()
    return story


@dataclass
class Rest:
    """What is on the disk after the power came back, and what the store has."""

    files: dict[str, bytes]
    acknowledged: int
    #: Steps that are in the store.
    stored: set[int]
    #: Steps whose frame is whole on the disk.
    whole: set[int]


def cut(story: Story, dice: random.Random, at: int, chance: float) -> Rest:
    """The world after a loss of power before event ``at``; what was not durable was lost with this chance, each on its own."""
    events = story.events[:at]
    last_sync: dict[int, int] = {}
    names_synced = -1
    acknowledged = points_stored = 0
    for number, event in enumerate(events):
        if event.what == "sync":
            last_sync[event.file] = number
        elif event.what == "sync_names":
            names_synced = number
        elif event.what == "ack":
            acknowledged, points_stored = event.position, event.step
    names: dict[str, int] = {}
    contents: dict[int, bytearray] = {}
    kept: list[tuple[int, int]] = []
    for number, event in enumerate(events):
        if event.what == "name" and (number < names_synced or dice.random() >= chance):
            names[event.path] = event.file
        elif event.what == "unname" and (number < names_synced or dice.random() >= chance):
            names.pop(event.path, None)
        elif event.what == "write":
            data = event.data
            if number > last_sync.get(event.file, -1) and dice.random() < chance:
                data = data[: dice.choice([0, dice.randrange(len(data))])]
            content = contents.setdefault(event.file, bytearray())
            if data:
                # A hole that a lost write leaves before a kept one reads as zeros.
                content.extend(bytes(max(0, event.offset - len(content))))
                content[event.offset : event.offset + len(data)] = data
            if len(data) == len(event.data) and event.step >= 0:
                kept.append((event.file, event.step))
    on_disk = set(names.values())
    return Rest(
        {name: bytes(contents.get(file, b"")) for name, file in names.items()},
        acknowledged,
        set(range(points_stored)),
        {step for file, step in kept if file in on_disk},
    )


@pytest.fixture
def disk() -> Iterator[Path]:
    """In memory where there is such a place: the schedules are many."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    place = Path(tempfile.mkdtemp(dir=base))
    yield place
    shutil.rmtree(place)


def restore(disk: Path, story: Story, rest: Rest) -> Path:
    folder = disk / story.journal
    folder.mkdir(mode=0o700)
    for name, content in rest.files.items():
        (folder / name).write_bytes(content)
    return folder


def test_power_loss_loses_only_what_was_not_durable(story: Story, disk: Path, times: Callable[[int], int]) -> None:
    """10,000 schedules: adoption always comes to an end; the store keeps all that it acknowledged, gets no record twice and none
    altered, and gets every record that is still whole on the disk."""
    dice = random.Random(30)
    delivered_something = 0
    schedules = times(10_000)
    for _ in range(schedules):
        at = dice.randrange(len(story.events) + 1)
        rest = cut(story, dice, at, dice.choice([0.02, 0.2, 0.5, 0.9, 1.0]))
        folder = restore(disk, story, rest)
        store = Store()
        store.next[story.journal] = store.stored[story.journal] = rest.acknowledged
        summary = deliver_abandoned(disk, lambda address, store=store: store)  # type: ignore[misc]
        if summary.kept:
            assert META in summary.kept[folder], summary.kept
            assert at <= 8, "whose journal it is was durable before the first delivery"
            shutil.rmtree(folder)
            continue
        assert find_journals(disk) == []
        found = store.steps()
        assert found == sorted(set(found))
        assert all(value == step / 7 for _, step, value in store.points)
        assert not rest.stored & set(found), "stored twice"
        assert rest.whole <= rest.stored | set(found), "on the disk, and not delivered"
        ends = [record for record in store.records if isinstance(record, RunEnded)]
        assert len(ends) == (1 if rest.acknowledged or found or store.records else 0)
        delivered_something += bool(found)
    assert delivered_something > schedules // 3


def test_without_any_loss_all_is_there(story: Story, disk: Path) -> None:
    """The oracle of these tests: cut at any instant without losing a write, every step so far is in the store or delivered."""
    done = 0
    for at in range(len(story.events) + 1):
        rest = cut(story, random.Random(0), at, 0.0)
        if META not in rest.files or not rest.files[META]:
            continue
        restore(disk, story, rest)
        store = Store()
        store.next[story.journal] = store.stored[story.journal] = rest.acknowledged
        assert deliver_abandoned(disk, lambda address, store=store: store).kept == {}  # type: ignore[misc]
        emitted = {event.step for event in story.events[:at] if event.what == "write" and event.step >= 0}
        assert rest.stored | set(store.steps()) == emitted
        done = max(done, len(emitted))
    assert done == story.steps
