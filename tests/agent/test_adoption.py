"""What dead processes left behind is delivered once, whoever does it and however often that is cut short."""

from __future__ import annotations

import os
import random
import signal
import socket
import threading
import time
import tracemalloc
from pathlib import Path

import msgspec
import pytest

from agent.journal.scenes import Store, assert_conserved, folder_of, meta, new_writer, point, start
from looptap.adoption import KILLED, Adopted, deliver_abandoned
from looptap.events import Batch, Note, RunEnded
from looptap.journal.folder import META, JournalMeta, find_journals, segments
from looptap.journal.frames import FRAME_HEAD, FRAME_MAGIC, VERSION, encode
from looptap.journal.reader import unread
from looptap.journal.writer import JournalWriter
from looptap.sinks import Unavailable
from looptap_collector.backends.sqlite import SqliteBackend
from looptap_collector.embedded import Embedded


def adopt(root: Path, store: Store) -> Adopted:
    return deliver_abandoned(root, lambda address: store)


def abandoned(root: Path, points: int, *, ended: bool = False, run: str = "run-1") -> Path:
    """A journal whose owner is gone."""
    writer = new_writer(root, run=run, segment_bytes=2000)
    for step in range(points):
        writer.append(point(step))
    if ended:
        writer.append(encode(RunEnded("failed", 5, "ValueError: no")))
    writer.close()
    return folder_of(writer)


def test_killed_run_is_stored_and_ended(tmp_path: Path) -> None:
    """All records arrive, then an end that says killed, at the time of the last record; the folder goes."""
    folder = abandoned(tmp_path, 100)
    store = Store()
    summary = adopt(tmp_path, store)
    assert store.steps() == list(range(100))
    assert isinstance(store.records[-1], RunEnded)
    assert (store.records[-1].status, store.records[-1].error) == ("killed", KILLED)
    assert summary == Adopted(runs=["calm-otter-12"], records=102, kept={})
    assert not folder.exists()
    assert_conserved(102, store, folder.name)


def test_run_that_ended_keeps_its_own_end(tmp_path: Path) -> None:
    """A run that could say how it ended is not called killed, also when something was recorded after the end."""
    writer = new_writer(tmp_path)
    writer.append(encode(RunEnded("failed", 5, "ValueError: no")))
    writer.append(encode(Note("late", "after the end", 6)))
    writer.close()
    store = Store()
    adopt(tmp_path, store)
    assert [record.status for record in store.records if isinstance(record, RunEnded)] == ["failed"]
    assert_conserved(3, store, writer.journal)


def test_forked_child_does_not_end_its_parents_run(tmp_path: Path) -> None:
    """The journal of a process that only added to a run is delivered without an end."""
    writer = JournalWriter.create(tmp_path, meta(is_primary=False))
    writer.append(start())
    writer.append(point(0))
    writer.close()
    store = Store()
    adopt(tmp_path, store)
    assert not any(isinstance(record, RunEnded) for record in store.records)
    assert_conserved(2, store, writer.journal)


def test_living_process_is_left_alone(tmp_path: Path) -> None:
    """A journal whose lock is held is neither read nor touched."""
    writer = new_writer(tmp_path)
    store = Store()
    assert adopt(tmp_path, store) == Adopted()
    assert store.records == []
    writer.append(point(0))
    assert folder_of(writer).exists()


def test_nothing_to_do_twice(tmp_path: Path) -> None:
    """A second adoption finds nothing, and a root that does not exist is nothing to complain of."""
    abandoned(tmp_path, 10)
    store = Store()
    adopt(tmp_path, store)
    assert adopt(tmp_path, store) == Adopted()
    assert adopt(tmp_path / "missing", store) == Adopted()


def test_journal_without_records_is_removed(tmp_path: Path) -> None:
    """A process that died before its first record leaves no run behind."""
    writer = JournalWriter.create(tmp_path, meta())
    writer.close()
    store = Store()
    assert adopt(tmp_path, store) == Adopted()
    assert store.records == []
    assert find_journals(tmp_path) == []


def test_unreachable_store_keeps_the_journal(tmp_path: Path) -> None:
    """Where the store raises, the journal stays whole and the reason is told; later it is delivered."""
    folder = abandoned(tmp_path, 50)

    def unreachable(address: str) -> Store:
        raise RuntimeError("the embedded store needs sqlalchemy")

    summary = deliver_abandoned(tmp_path, unreachable)
    assert summary.kept == {folder: "the embedded store needs sqlalchemy"}
    assert unread(folder, 0) == 51
    store = Store()
    assert adopt(tmp_path, store).kept == {}
    assert_conserved(52, store, folder.name)


def test_one_broken_journal_does_not_hold_the_others(tmp_path: Path) -> None:
    """Each journal is on its own: one without a readable owner is kept, the next is delivered."""
    broken = abandoned(tmp_path, 5, run="run-1")
    (broken / META).write_bytes(b"")
    abandoned(tmp_path, 5, run="run-2")
    store = Store()
    summary = adopt(tmp_path, store)
    assert list(summary.kept) == [broken]
    assert META in summary.kept[broken]
    assert store.steps() == list(range(5))
    assert unread(broken, 0) == 6


def test_journal_of_a_newer_version_is_kept(tmp_path: Path) -> None:
    """Its format is not ours to judge: nothing in it is touched (case 31)."""
    folder = abandoned(tmp_path, 5)
    content = msgspec.json.decode((folder / META).read_bytes())
    (folder / META).write_bytes(msgspec.json.encode({**content, "format": VERSION + 1}))
    before = {path: path.read_bytes() for path in folder.iterdir()}
    summary = adopt(tmp_path, Store())
    assert f"format {VERSION + 1}" in summary.kept[folder]
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_unknown_records_wait_for_a_newer_version(tmp_path: Path) -> None:
    """What comes before an unknown record is delivered, it and the rest stay, and no end is made up (case 31)."""
    writer = new_writer(tmp_path)
    writer.append(point(0))
    writer.append(msgspec.msgpack.encode({"type": "hologram", "time_ns": 1}))
    writer.append(point(1))
    writer.close()
    store = Store()
    for _ in range(2):
        summary = adopt(tmp_path, store)
        assert "hologram" in summary.kept[folder_of(writer)]
        assert store.steps() == [0]
        assert_conserved(writer.position, store, writer.journal, in_journal=unread(folder_of(writer), 2))


def test_journal_of_another_machine_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a shared home folder a lock of another machine cannot be seen, so its journals are left to it."""
    elsewhere = JournalMeta(VERSION, "20260101T000000-x", "run-1", "calm", "off", True, 1, "node-7", "another boot", 1)
    writer = JournalWriter.create(tmp_path, elsewhere)
    writer.append(start())
    writer.close()
    assert "node-7" in adopt(tmp_path, Store()).kept[folder_of(writer)]
    monkeypatch.setattr(socket, "gethostname", lambda: "node-7")
    assert adopt(tmp_path, Store()).kept == {}


def test_lost_tail_after_a_power_loss_does_not_reuse_numbers(tmp_path: Path) -> None:
    """When the store has more than the disk kept, the end of the run takes a number that the store does not have yet."""
    folder = abandoned(tmp_path, 20)
    store = Store()
    store.next[folder.name] = store.stored[folder.name] = 500
    assert adopt(tmp_path, store).kept == {}
    assert isinstance(store.records[-1], RunEnded)
    assert_conserved(501, store, folder.name)


def test_racing_adopters_deliver_once(tmp_path: Path) -> None:
    """Four adopters at once over ten journals: each record is stored once and every folder is gone."""
    names = [abandoned(tmp_path / "journal", 300, run=f"run-{number}").name for number in range(10)]
    store = Store()
    writing = threading.Lock()

    class OneAtATime(Store):
        def position(self, journal: str) -> int:
            return store.position(journal)

        def deliver(self, batch: Batch) -> None:
            with writing:
                store.deliver(batch)

    summaries: list[Adopted] = []
    threads = [
        threading.Thread(target=lambda: summaries.append(adopt(tmp_path / "journal", OneAtATime()))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [summary.kept for summary in summaries] == [{}] * 4
    assert sum(summary.records for summary in summaries) == 10 * 302
    for name in names:
        assert_conserved(302, store, name)
    assert find_journals(tmp_path / "journal") == []


def test_adopter_killed_in_the_middle(tmp_path: Path) -> None:
    """Adopters that are killed at random instants leave a journal that the next one finishes: one end, every point once."""
    dice = random.Random(9)
    for attempt in range(15):
        root, place = tmp_path / f"journal-{attempt}", tmp_path / f"store-{attempt}"
        folder = abandoned(root, 2_000)
        for _ in range(2):
            child = os.fork()
            if child == 0:
                try:
                    deliver_abandoned(root, lambda address, place=place: Embedded(place))  # type: ignore[misc]
                finally:
                    os._exit(0)
            time.sleep(dice.uniform(0.0, 0.15))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        summary = deliver_abandoned(root, lambda address, place=place: Embedded(place))  # type: ignore[misc]
        assert summary.kept == {}
        assert find_journals(root) == []
        assert list(root.iterdir()) == []
        backend = SqliteBackend(place / "looptap.db")
        history = backend.history("run-1", "loss", {})
        (delivery,) = backend.delivery("run-1")
        backend.close()
        assert history.steps.tolist() == list(range(2_000))
        assert delivery.next == delivery.stored == 2_002
        assert not folder.exists()


def test_full_disk_keeps_the_end_for_later(tmp_path: Path) -> None:
    """When the end of the run cannot be written into the journal, the journal stays, and nothing in it is lost."""
    folder = abandoned(tmp_path, 10)
    before = segments(folder)
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        summary = adopt(tmp_path, Store())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert folder in summary.kept
    assert segments(folder) == before
    store = Store()
    assert adopt(tmp_path, store).kept == {}
    assert_conserved(12, store, folder.name)


def test_planted_journals_are_not_touched(tmp_path: Path) -> None:
    """Case 43 of the hostile inputs: a journal that is a link, that others can write into, or that belongs to somebody else is
    neither delivered nor removed, and its store is not even asked."""
    asked: list[str] = []
    linked, writable, foreign = (abandoned(tmp_path / "root", 1, run=f"run-{number}") for number in range(3))
    elsewhere = tmp_path / "elsewhere"
    linked.rename(elsewhere)
    linked.symlink_to(elsewhere)
    writable.chmod(0o777)
    if os.geteuid() == 0:
        os.chown(foreign, 12345, 12345)
    else:
        foreign.chmod(0o722)

    def opened(address: str) -> Store:
        asked.append(address)
        return Store()

    summary = deliver_abandoned(tmp_path / "root", opened)
    assert set(summary.kept) == {writable, foreign}
    assert asked == []
    assert segments(elsewhere)
    assert segments(writable)
    assert segments(foreign)


def test_planted_length_takes_no_memory(tmp_path: Path) -> None:
    """Case 43: a frame that claims to be of 4 GB is damage like any other; what stands around it is delivered."""
    folder = abandoned(tmp_path, 10)
    newest = folder / segments(folder)[-1].name
    with newest.open("ab") as file:
        file.write(FRAME_HEAD.pack(FRAME_MAGIC, 2**32 - 1, 0) + b"x" * 100)
    store = Store()
    tracemalloc.start()
    try:
        assert adopt(tmp_path, store).kept == {}
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()
    assert store.steps() == list(range(10))


def test_store_that_is_away_is_asked_once(tmp_path: Path) -> None:
    """Of several journals for a store that cannot be used now, only the first asks; those for another store are delivered."""
    journals = [
        abandoned(tmp_path, 1, run="run-1"),
        abandoned(tmp_path, 1, run="run-2"),
    ]
    other = new_writer(tmp_path, run="run-3", store="/other")
    other.close()
    asked: list[str] = []

    def opened(address: str) -> Store:
        asked.append(address)
        if address == "off":
            raise Unavailable("not now")
        return Store()

    summary = deliver_abandoned(tmp_path, opened)
    assert summary.kept == dict.fromkeys(journals, "not now")
    assert sorted(asked) == ["/other", "off"]
    assert not folder_of(other).exists()
