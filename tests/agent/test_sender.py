"""The sender against stores that hang, refuse, raise and die: everything is delivered once, or waits, or is counted."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.journal.scenes import (
    RUN,
    Store,
    assert_conserved,
    folder_of,
    meta,
    new_writer,
    point,
    send,
    start,
)
from looptap.events import Batch, Points, RunEnded
from looptap.journal import courier as couriers
from looptap.journal.folder import find_journals, read_cursor, segments
from looptap.journal.frames import encode
from looptap.journal.reader import tail_position
from looptap.journal.writer import JournalWriter
from looptap.sender import BACKOFF_CAP_SECONDS, Sender, backoff
from looptap_collector.backends.sqlite import SqliteBackend
from looptap_collector.embedded import Embedded


def test_everything_arrives_once_and_in_order(writer: JournalWriter) -> None:
    """Points keep their order, steps and exact values, also across several batches."""
    store = Store()
    sender = send(writer, store)
    for step in range(60_000):
        writer.append(point(step))
    assert sender.stop(30)
    assert store.points == [("loss", step, step / 7) for step in range(60_000)]
    state = sender.state()
    assert (state.position, state.stored, state.points_stored, state.in_journal) == (60_001, 60_001, 60_000, 0)
    assert read_cursor(folder_of(writer)).next == 60_001
    assert_conserved(writer.position, store, writer.journal)


def test_series_are_apart_by_key_and_context(writer: JournalWriter) -> None:
    """One array per key and context; NaN and infinities travel as they are."""
    batches: list[Batch] = []

    class Watching(Store):
        def deliver(self, batch: Batch) -> None:
            batches.append(batch)
            super().deliver(batch)

    writer.append(encode(Points(1, 5, {"a": float("nan"), "b": 2.0}, {"rank": "0", "group": "1"})), 2)
    writer.append(encode(Points(2, 6, {"a": float("-inf")}, {"group": "1", "rank": "0"})))
    writer.append(encode(Points(3, 7, {"a": 3.0})))
    assert send(writer, Watching()).stop(10)
    found = {
        (series.key, tuple(sorted(series.context.items()))): series for batch in batches for series in batch.series
    }
    both = (("group", "1"), ("rank", "0"))
    assert set(found) == {("a", both), ("b", both), ("a", ())}
    assert memoryview(found["a", both].steps).cast("q").tolist() == [1, 2]
    assert memoryview(found["a", both].times_ns).cast("q").tolist() == [5, 6]
    assert repr(memoryview(found["a", both].values).cast("d").tolist()) == "[nan, -inf]"


def test_delivered_segments_go(tmp_path: Path) -> None:
    """While the run goes on, segments that are in the store are removed from the disk."""
    writer = new_writer(tmp_path / "journal", segment_bytes=20_000)
    sender = send(writer, Store())
    for step in range(10_000):
        writer.append(point(step))
    assert sender.flush(10)
    writer.append(point(10_000))
    assert sender.stop(10)
    assert len(segments(folder_of(writer))) == 1


def test_flush_waits_for_what_was_recorded(writer: JournalWriter) -> None:
    """After flush all earlier records are in the store, drops that nothing follows included."""
    store = Store()
    sender = send(writer, store)
    writer.append(point(0))
    writer.drop("not_a_number", 2)
    assert sender.flush(10)
    assert store.next[writer.journal] == writer.position == 4
    assert_conserved(4, store, writer.journal)
    assert sender.stop(10)


def test_failing_store_gets_the_same_batch_again(writer: JournalWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that raises anything at all costs retries only, and it gets the identical batch until it takes it."""
    monkeypatch.setattr("looptap.sender.BACKOFF_BASE_SECONDS", 0.001)
    offered: list[Batch] = []

    class Moody(Store):
        def deliver(self, batch: Batch) -> None:
            offered.append(batch)
            errors = {1: OSError("disk I/O error\nsecond line"), 2: MemoryError(), 3: SystemExit(3), 4: ValueError("x")}
            if len(offered) in errors:
                raise errors[len(offered)]
            super().deliver(batch)

    store = Moody()
    for step in range(10):
        writer.append(point(step))
    sender = send(writer, store)
    assert sender.stop(10)
    assert all(batch is offered[0] for batch in offered[:5])
    assert sender.state().retries == 4
    assert sender.state().error is None
    assert store.steps() == list(range(10))
    assert_conserved(writer.position, store, writer.journal)


def test_response_that_was_lost_is_not_a_second_delivery(
    writer: JournalWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that stores and then raises has each record once."""
    monkeypatch.setattr("looptap.sender.BACKOFF_BASE_SECONDS", 0.001)

    class Forgetful(Store):
        calls = 0

        def deliver(self, batch: Batch) -> None:
            super().deliver(batch)
            self.calls += 1
            if self.calls % 2:
                raise ConnectionResetError("response lost")

    store = Forgetful()
    sender = send(writer, store)
    for step in range(5_000):
        writer.append(point(step))
    assert sender.stop(20)
    assert store.steps() == list(range(5_000))
    assert_conserved(writer.position, store, writer.journal)


def test_hanging_store_does_not_hold_the_exit(writer: JournalWriter) -> None:
    """stop() gives up after its time; the records stay in the journal and the next one delivers them."""
    release = threading.Event()

    class Hanging(Store):
        def deliver(self, batch: Batch) -> None:
            release.wait(30)

    sender = send(writer, Hanging())
    writer.append(point(0))
    assert sender.stop(0.2) is False
    assert sender.state().in_journal == 2
    assert tail_position(folder_of(writer)) == 2
    release.set()


def test_store_that_cannot_be_opened_is_tried_again(writer: JournalWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing is told in one line, and the store may come later."""
    monkeypatch.setattr("looptap.sender.BACKOFF_BASE_SECONDS", 0.001)
    store, attempts = Store(), 0

    def open_store() -> Store:
        nonlocal attempts
        attempts += 1
        if attempts < 4:
            raise RuntimeError("the embedded store needs sqlalchemy\n(and more)")
        return store

    writer.append(point(0))
    sender = Sender(writer, RUN, open_store, interval=0.01)
    assert sender.state().position == 0
    sender.start()
    assert sender.stop(10)
    assert sender.state().retries == 3
    assert store.steps() == [0]


def test_memory_only_journal_is_delivered() -> None:
    """Without any journal on disk the sender ships from memory."""
    writer = JournalWriter.create(None, meta())
    store = Store()
    sender = send(writer, store)
    writer.append(start())
    for step in range(3_000):
        writer.append(point(step))
    writer.drop("not_a_number")
    assert sender.stop(10)
    assert store.steps() == list(range(3_000))
    assert writer.waiting(0) == (3_002, [])
    assert_conserved(3_002, store, writer.journal)


def test_heartbeat_without_records(writer: JournalWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent run still tells that it lives, with batches that carry nothing."""
    monkeypatch.setattr("looptap.sender.HEARTBEAT_SECONDS", 0.0)
    store = Store()
    sender = send(writer, store)
    while store.heartbeats < 3:
        time.sleep(0.01)
    assert sender.stop(10)
    assert store.next[writer.journal] == 1


def test_batches_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long backlog goes in pieces, not in one batch of everything."""
    monkeypatch.setattr(couriers, "BATCH_BYTES", 50_000)
    writer = new_writer(tmp_path / "journal")
    sizes: list[int] = []

    class Measuring(Store):
        def deliver(self, batch: Batch) -> None:
            sizes.append(sum(len(series.steps) * 3 for series in batch.series))
            super().deliver(batch)

    for step in range(20_000):
        writer.append(point(step))
    assert send(writer, Measuring()).stop(20)
    assert len(sizes) > 5
    assert max(sizes) < 60_000


def test_backoff_grows_and_is_bounded() -> None:
    """The pause is anything up to a bound that doubles from half a second to thirty."""
    for failures, bound in [(0, 0.5), (1, 1.0), (5, 16.0), (6, 30.0), (1000, BACKOFF_CAP_SECONDS)]:
        pauses = [backoff(failures) for _ in range(300)]
        assert 0 <= min(pauses) < bound / 4
        assert bound / 2 < max(pauses) <= bound


_PROGRAM = textwrap.dedent(
    """
    import os, sys
    from pathlib import Path
    from agent.journal.scenes import RUN, new_writer, point
    from looptap.sender import Sender
    from looptap_collector.embedded import Embedded

    root, store = Path(sys.argv[1]), Path(sys.argv[2])
    writer = new_writer(root, store=str(store), segment_bytes=30_000)
    Sender(writer, RUN, lambda: Embedded(store), interval=0.001).start()
    for step in range(10**9):
        writer.append(point(step))
        os.write(1, step.to_bytes(8, "little"))
    """
)


def test_killed_between_delivery_and_cursor_stores_once(tmp_path: Path) -> None:
    """SIGKILL at random instants of real deliveries into SQLite: after the next process has adopted the journal, the store has
    every acknowledged point exactly once (case 17 and the duties of the ledger)."""
    from looptap.adoption import deliver_abandoned

    dice = random.Random(4)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    for attempt in range(6):
        root, place = tmp_path / f"journal-{attempt}", tmp_path / f"store-{attempt}"
        with (tmp_path / f"acknowledged-{attempt}").open("wb") as told:
            process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, str(root), str(place)], stdout=told, env=environment
            )
            while not (place / "looptap.db").exists():
                assert process.poll() is None
                time.sleep(0.005)
            time.sleep(dice.uniform(0.05, 0.5))
            process.send_signal(signal.SIGKILL)
            process.wait()
        acknowledged = (tmp_path / f"acknowledged-{attempt}").stat().st_size // 8
        (folder,) = find_journals(root)
        emitted = tail_position(folder)
        summary = deliver_abandoned(root, lambda address: Embedded(Path(address)))
        assert summary.kept == {}
        backend = SqliteBackend(place / "looptap.db")
        history = backend.history(RUN, "loss", {})
        (delivery,) = backend.delivery(RUN)
        run = backend.run(RUN)
        backend.close()
        assert history.steps.tolist() == list(range(len(history.steps)))
        assert acknowledged <= len(history.steps) <= acknowledged + 1
        assert delivery.next == delivery.stored == emitted + 1, "every record and the end that the adopter wrote"
        assert run is not None
        assert run.status == "killed"
        assert not folder.exists()


def test_end_of_the_run_is_delivered_by_stop(writer: JournalWriter) -> None:
    """The last record before stop() is in the store when it returns True."""
    store = Store()
    sender = send(writer, store)
    writer.append(encode(RunEnded("finished", 9)))
    assert sender.stop(10)
    assert store.records[-1] == RunEnded("finished", 9)
    assert read_cursor(folder_of(writer)).ended


def test_outage_is_told_once_and_so_is_its_end(writer: JournalWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is wrong: one line when it has lasted for a while, one when it is over, and the same for the next outage."""
    monkeypatch.setattr("looptap.sender.BACKOFF_BASE_SECONDS", 0.01)
    monkeypatch.setattr("looptap.sender.OUTAGE_TOLD_SECONDS", 0.05)
    told: list[str] = []

    class Failing(Store):
        away = True

        def deliver(self, batch: Batch) -> None:
            if self.away:
                raise OSError("database is locked\n(and more)")
            super().deliver(batch)

    store = Failing()
    sender = Sender(writer, RUN, lambda: store, interval=0.01, warn=told.append)
    sender.start()

    def go_away_and_come_back(outage: int) -> None:
        store.away = True
        writer.append(point(outage))
        wait_for(lambda: len(told) == 2 * outage - 1)
        retries = sender.state().retries
        wait_for(lambda: sender.state().retries >= retries + 3)
        store.away = False
        wait_for(lambda: len(told) == 2 * outage)

    go_away_and_come_back(1)
    go_away_and_come_back(2)
    assert sender.stop(10)
    away = "OSError: database is locked · training goes on, records wait in the journal"
    assert told == [away, "the store takes records again, those that waited first"] * 2


def test_short_outage_is_not_told(writer: JournalWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is over before anybody would notice costs no line."""
    monkeypatch.setattr("looptap.sender.BACKOFF_BASE_SECONDS", 0.001)
    told: list[str] = []

    class Hiccup(Store):
        failures = 5

        def deliver(self, batch: Batch) -> None:
            self.failures -= 1
            if self.failures >= 0:
                raise OSError("not now")
            super().deliver(batch)

    writer.append(point(0))
    sender = Sender(writer, RUN, Hiccup, interval=0.01, warn=told.append)
    sender.start()
    assert sender.flush(10)
    assert sender.state().retries == 5
    assert sender.stop(10)
    assert told == []


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
