"""One journal to one store: what the store refuses, forgets or cannot keep costs that record only, and is counted."""

from __future__ import annotations

import threading

import pytest

from agent.journal.scenes import Store, assert_conserved, folder_of, point, send
from looptap.events import Artifact, Batch, File, Note, Rejected
from looptap.journal.frames import encode
from looptap.journal.reader import tail_position
from looptap.journal.writer import JournalWriter


def test_rejected_record_is_dropped_alone(writer: JournalWriter) -> None:
    """Of a batch with poisonous records only those are dropped, counted as rejected (case 10)."""
    poison = {17, 18, 900, 4_999}

    class Picky(Store):
        def deliver(self, batch: Batch) -> None:
            for series in batch.series:
                if poison & set(memoryview(series.steps).cast("q")):
                    raise Rejected("this step is not for us")
            super().deliver(batch)

    store = Picky()
    for step in range(5_000):
        writer.append(point(step))
    sender = send(writer, store)
    assert sender.stop(20)
    assert store.steps() == [step for step in range(5_000) if step not in poison]
    assert writer.dropped == {"rejected": 4}
    assert_conserved(writer.position, store, writer.journal)


def test_rejection_because_somebody_else_delivered_loses_nothing(writer: JournalWriter) -> None:
    """Where the store is further than we thought, the sender goes on from there and calls nothing rejected."""
    store = Store()
    opened = threading.Event()

    class Overtaken(Store):
        def position(self, journal: str) -> int:
            answer = store.position(journal)
            if not opened.is_set():
                opened.set()
                store.next[journal] = store.stored[journal] = 51
            return answer

        def deliver(self, batch: Batch) -> None:
            store.deliver(batch)

    for step in range(100):
        writer.append(point(step))
    assert send(writer, Overtaken()).stop(10)
    assert store.steps() == list(range(50, 100))
    assert writer.dropped == {}
    assert_conserved(writer.position, store, writer.journal)


def test_store_put_back_to_a_backup_is_noticed(writer: JournalWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an outage the store is asked where it stands: what a backup does not hold any more is counted as lost by it, by
    sender and store alike, and the run goes on; twice."""
    monkeypatch.setattr("looptap.sender.BACKOFF_BASE_SECONDS", 0.001)

    class Restored(Store):
        is_away = False

        def deliver(self, batch: Batch) -> None:
            if self.is_away:
                self.is_away = False
                raise ConnectionResetError("away")
            super().deliver(batch)

        def put_back(self, next: int, stored: int) -> None:
            self.next[writer.journal], self.stored[writer.journal] = next, stored
            self.points = [point for point in self.points if point[1] < stored - 1]
            self.is_away = True

    store = Restored()
    sender = send(writer, store)
    step = 0
    for lost in (0, 30, 20):
        backup = store.next[writer.journal], store.stored[writer.journal]
        for _ in range(lost or 10):
            writer.append(point(step))
            step += 1
        assert sender.flush(10)
        if lost:
            store.put_back(*backup)
    writer.append(point(step))
    assert sender.stop(10)
    assert writer.dropped == {"lost_by_store": 50}
    assert store.dropped[writer.journal]["lost_by_store"] == 50
    assert_conserved(writer.position, store, writer.journal)
    assert sender.state().stored == store.stored[writer.journal] == 12


def test_store_that_forgot_the_run_costs_no_records(writer: JournalWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that was deleted under the run rejects what follows; that is told, and the records wait in the journal."""
    monkeypatch.setattr("looptap.sender.BACKOFF_BASE_SECONDS", 0.001)

    class Forgetting(Store):
        def deliver(self, batch: Batch) -> None:
            if batch.first > self.next[batch.journal]:
                raise Rejected("a run that never started")
            super().deliver(batch)

    store = Forgetting()
    sender = send(writer, store)
    assert sender.flush(10)
    store.next.clear()
    writer.append(point(0))
    assert sender.stop(0.3) is False
    assert "the store has lost records" in (sender.state().error or "")
    assert writer.dropped == {}
    assert sender.state().in_journal == 1
    assert tail_position(folder_of(writer)) == 2


def test_files_become_artifacts_in_their_place(writer: JournalWriter) -> None:
    """What came before a file is in the store before the file is looked into; the file counts as one record."""
    seen: list[int] = []

    class Keeping(Store):
        def keep_file(self, file: File) -> Artifact:
            seen.append(len(self.points))
            return super().keep_file(file)

    store = Keeping()
    for step in range(10):
        writer.append(point(step))
        writer.append(encode(File(f"/tmp/{step}.pt", f"{step}.pt", step, 10, step)))
    assert send(writer, store).stop(10)
    assert seen == list(range(1, 11))
    assert [record.name for record in store.records if isinstance(record, Artifact)] == [
        f"{step}.pt" for step in range(10)
    ]
    assert_conserved(writer.position, store, writer.journal)


def test_file_that_cannot_be_kept_holds_nothing_up(writer: JournalWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file on which the store fails again and again is recorded without content, with the reason."""
    monkeypatch.setattr("looptap.sender.BACKOFF_BASE_SECONDS", 0.001)

    class Clumsy(Store):
        def keep_file(self, file: File) -> Artifact:
            raise ValueError("cannot hash this")

    store = Clumsy()
    writer.append(encode(File("/tmp/a.pt", "a.pt", 1, 10, 1)))
    writer.append(encode(Note("after", "the file", 2)))
    assert send(writer, store).stop(10)
    artifact = next(record for record in store.records if isinstance(record, Artifact))
    assert artifact.missing == "could not be kept: ValueError: cannot hash this"
    assert isinstance(store.records[-1], Note)
