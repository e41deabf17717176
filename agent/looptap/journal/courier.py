"""Carries one journal to one store, batch after batch, exactly once.

The store's own position is the truth: it was committed together with the records. The cursor in the journal's folder follows it.
A batch that could not be delivered is kept as it is and offered again; since the store knows its numbers, it does not matter
whether the first attempt had arrived after all. A batch that the store rejects for good is cut down until the one record that it
rejects is alone; that one is dropped and counted.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import msgspec

from looptap.digests import fingerprint
from looptap.events import Artifact, Batch, Dropped, File, JournalRecord, Points, Rejected, RunEnded
from looptap.journal.batching import Numbered, make_batch
from looptap.journal.folder import read_cursor
from looptap.journal.frames import decode
from looptap.journal.reader import JournalReader
from looptap.journal.ring import Waiting
from looptap.journal.writer import JournalWriter
from looptap.sinks import Sink

BATCH_BYTES = 2**20
#: Small, because decoding holds the interpreter lock: after each, other threads get their turn.
_CHUNK_BYTES = 8 * 1024
#: A file whose keeping fails so often for another reason than the disk or the network is recorded without its content.
_FILE_ATTEMPTS = 3


#: Deliveries that are remembered, to tell how many records a store has lost that was put back to an earlier state.
_MILESTONES = 4_096
#: Why records that were stored count as dropped.
LOST_BY_STORE = "lost_by_store"


class StoreForgot(Exception):
    """The store no longer knows the run that it acknowledged."""


class Courier:
    """Used by one thread at a time. ``writer`` is the live journal's, or None for one whose owner is dead."""

    def __init__(
        self,
        run: str,
        journal: str,
        sink: Sink,
        reader: JournalReader | None,
        writer: JournalWriter | None,
        show: Callable[[Sequence[Numbered]], None] | None = None,
    ) -> None:
        """``show`` gets what is taken from the journal. Asks the store how far it is; raises what the sink raises."""
        self.sink = sink
        #: Numbers before this one are taken care of: stored, or lost and counted.
        self.position = sink.position(journal)
        self.stored = 0
        self.points_stored = 0
        #: When the store last heard that the run lives (time.monotonic).
        self.heard_at = time.monotonic()
        #: The end of the run was delivered, now or in an earlier life.
        self.ended = False
        #: What went wrong while the cursor was moved; harmless, but it keeps the disk from being freed.
        self.problem: str | None = None
        self._run = run
        self._journal = journal
        self._reader = reader
        self._writer = writer
        self._show = show
        self._dropped: dict[str, int] = {}
        self._unsent: deque[Numbered] = deque()
        self._sending: tuple[list[Numbered], Batch] | None = None
        #: Up to here nothing was left anywhere when nothing was found.
        self._end = 0
        self._most_records = 2**30
        self._file_attempts = 0
        #: Something failed: who knows what the store is now. Asked once an outage, or a store that refuses every second
        #: request would never be given anything.
        self._is_in_doubt = False
        self._has_looked = False
        self._milestones: deque[tuple[int, int]] = deque([(self.position, 0)], _MILESTONES)
        if reader is not None:
            self.ended = read_cursor(reader.folder).ended
            reader.skip(self.position)

    def deliver_next(self) -> bool:
        """Deliver one batch, or a part of a file; False when there is nothing to deliver. What the sink raises beside ``Rejected``
        comes out, and the same batch is offered again by the next call."""
        if self._is_in_doubt and not self._has_looked:
            self._look_again()
        if self._sending is None:
            if not self._unsent:
                self._end = self._fetch()
            if self._unsent and not self._is_kept(*self._unsent[0]):
                return True
            self._sending = self._next_batch()
        if self._sending is None:
            return False
        records, batch = self._sending
        try:
            self.sink.deliver(batch)
        except Rejected:
            self._rejected(records, batch)
            return True
        except BaseException:
            self._is_in_doubt = True
            raise
        self.heard_at = time.monotonic()
        self._is_in_doubt = self._has_looked = False
        self._delivered(records, batch.next)
        return True

    def heartbeat(self) -> None:
        """Tell the store that the run is alive, and what was lost so far. Raises what the sink raises."""
        try:
            self.sink.deliver(make_batch(self._run, self._journal, self.position, self.position, (), self._dropped))
        except BaseException:
            self._is_in_doubt = True
            raise
        self.heard_at = time.monotonic()

    # --- private ------------------------------------------------------------------------------------------------------

    def _look_again(self) -> None:
        """While it was away, the store may have been put back to an earlier state, from a backup. What it has lost is counted,
        and what is still here is delivered."""
        position = self.sink.position(self._journal)
        if position < self.position:
            if position == 0:
                raise StoreForgot(f"the store has lost the run: it had {self.position} records of it")
            while self._milestones and self._milestones[-1][0] > position:
                self._milestones.pop()
            # Of a backup from before all that is remembered, it is the numbers that tell.
            kept = self._milestones[-1][1] if self._milestones else self.stored - (self.position - position)
            lost = self.stored - max(0, kept)
            self.stored -= lost
            self._dropped[LOST_BY_STORE] = self._dropped.get(LOST_BY_STORE, 0) + lost
            if self._writer is not None:
                self._writer.count_lost(LOST_BY_STORE, lost)
            self.problem = f"the store was put back to an earlier state and has lost {lost:,} records that it had"
            # What is sent next tells the store, too.
            self._sending = None
            self._milestones.append((self.position, self.stored))
        self._has_looked = True

    def _next_batch(self) -> tuple[list[Numbered], Batch] | None:
        if not self._unsent:
            # Nothing is left anywhere but numbers that were dropped: let the store know that they are.
            return ([], self._batch([], self._end)) if self._end > self.position else None
        records = list(islice(self._until_file(), self._most_records))
        return records, self._batch(records, records[-1][0] + records[-1][1])

    def _until_file(self) -> Iterator[Numbered]:
        """A file is looked into only when all that came before it is in the store: that may take a while."""
        for item in self._unsent:
            if isinstance(item[2], File):
                return
            yield item

    def _batch(self, records: list[Numbered], end: int) -> Batch:
        for _, _, record in records:
            if isinstance(record, Dropped):
                for reason, total in record.totals.items():
                    self._dropped[reason] = max(total, self._dropped.get(reason, 0))
        return make_batch(self._run, self._journal, self.position, end, records, self._dropped)

    def _fetch(self) -> int:
        """Read about a megabyte; from the files first, and from the writer's memory what never got into them.

        Returns the number up to which nothing is left when nothing was found.
        """
        end = self.position
        waiting: list[Waiting] = []
        if self._writer is not None:
            # Asked before the files are read: whatever is not in this answer was in the files by then.
            self._writer.settle()
            end, waiting = self._writer.waiting(self.position)
        size = 0
        while self._reader is not None and size < BATCH_BYTES:
            chunk = self._reader.read(_CHUNK_BYTES) if self._writer is None else self._reader.read(_CHUNK_BYTES, end)
            if not chunk:
                break
            self._unsent.extend(chunk)
            if self._show is not None:
                self._show(chunk)
            size += _CHUNK_BYTES
            time.sleep(0)
        if self._unsent:
            return end
        for item in waiting:
            self._unsent.append((item.seq, item.takes, decode(item.payload)))
            size += len(item.payload)
            if size >= BATCH_BYTES:
                break
        if waiting and self._show is not None:
            self._show(list(self._unsent))
        if self._writer is not None:
            self._dropped.update(self._writer.dropped)
        return end

    def _is_kept(self, seq: int, count: int, record: JournalRecord) -> bool:
        """Of the first record that is unsent: whether it can go into a batch now. A file needs its content kept before."""
        if not isinstance(record, File):
            return True
        artifact = self._keep(record)
        if artifact is None:
            return False
        self._unsent[0] = (seq, count, artifact)
        return True

    def _keep(self, file: File) -> Artifact | None:
        try:
            artifact = fingerprint(file) if file.role == "input" else self.sink.keep_file(file)
        except Exception as error:
            self._file_attempts += 1
            if isinstance(error, OSError) or self._file_attempts < _FILE_ATTEMPTS:
                raise
            artifact = file.as_artifact(missing=f"could not be kept: {type(error).__name__}: {error}"[:500])
        self._file_attempts = 0
        if file.role == "output" and artifact is not None and artifact.digest is not None:
            from looptap.arrays.files import weights_in  # for those only who write models

            artifact = msgspec.structs.replace(artifact, weights=weights_in(file))
        return artifact

    def _delivered(self, records: list[Numbered], end: int) -> None:
        for _, count, record in records:
            self._unsent.popleft()
            self.stored += count
            if type(record) is Points:
                self.points_stored += count
            elif isinstance(record, RunEnded):
                self.ended = True
        self._most_records *= 2 if self._most_records < 2**30 else 1
        self._move_to(end)

    def _rejected(self, records: list[Numbered], batch: Batch) -> None:
        position = self.sink.position(self._journal)
        if position < self.position:
            # It was deleted or put back to an earlier state under us. That is no fault of the records: they wait.
            raise StoreForgot(
                f"the store has lost records that it had: it is at {position}, and was at {self.position}"
            )
        self._sending = None
        if position > self.position:
            # It is not the records: somebody else has delivered (some of) them.
            while self._unsent and self._unsent[0][0] < position:
                self._unsent.popleft()
            self._move_to(position)
        elif len(records) > 1:
            self._most_records = len(records) // 2
        elif records:
            _, count, _ = self._unsent.popleft()
            self._dropped["rejected"] = self._dropped.get("rejected", 0) + count
            if self._writer is not None:
                self._writer.count_lost("rejected", count)
            # The store has to hear of the loss, or its position would stay behind for good if nothing followed.
            self._sending = ([], self._batch([], batch.next))
        else:
            self._move_to(batch.next)

    def _move_to(self, end: int) -> None:
        self._sending = None
        self.position = end
        self._milestones.append((end, self.stored))
        if self._writer is not None:
            self._writer.delivered(end)
        if self._reader is not None:
            self._reader.skip(end)
            try:
                self._reader.commit(end, ended=self.ended)
                self.problem = None
            except OSError as error:
                self.problem = f"the journal's cursor cannot be written: {error}"
