"""The alerts of one run in one process: who sees its records, and who hears of what is wrong.

The sender hands over what it takes from the journal anyway. While it is stuck (a store that is away) this reads the journal by
itself, so that a training is watched when nobody takes its records, too.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from looptap.alerts import ranks
from looptap.alerts.latch import FIRED, Change
from looptap.alerts.telling import Teller
from looptap.alerts.watch import Watch
from looptap.alerts.whereabouts import Whereabouts
from looptap.events import Alert, Points
from looptap.guard import Guard
from looptap.journal.batching import Numbered
from looptap.journal.frames import decode
from looptap.plain import clean
from looptap.recorder import Recorder
from looptap.settings import Settings

if TYPE_CHECKING:
    from looptap.journal.reader import JournalReader
    from looptap.session import ActiveRun

#: The sender has shown nothing for so long, although there is something: read it here.
BLIND_SECONDS = 5.0
#: A run that raises more is not helped by one more.
MOST_ALERTS = 1_000
#: How long the end of a run waits for what its last records say.
LAST_LOOK_SECONDS = 0.5
TICK_SECONDS = 1.0
_CHUNK_BYTES = 8 * 1024
#: A store takes four times that in bytes.
_MESSAGE_CHARACTERS = 1_000


def alarms_of(
    run: ActiveRun,
    recorder: Recorder,
    settings: Settings,
    say: Callable[[str], None],
    profile: Callable[[float], None],
) -> Alarms | None:
    """Called by the thread that trains. ``profile`` takes one of so many seconds. None where nobody wants any alerts."""
    if not settings.alerts:
        return None
    is_first_on_host = run.job is None or run.job.rank == 0 or run.job.is_first_on_host
    facts = {
        "run": run.id,
        "name": run.name,
        "experiment": run.experiment,
        "host": run.started.host,
        "store": run.store,
    }

    def note(said: str) -> None:
        # What fails later is of no run any more.
        if not alarms.is_over:
            recorder.note("alerts", said)

    # One process of each host tells: an alert of a thousand ranks is one.
    teller = Teller(settings, facts, note) if is_first_on_host else None
    watch = Watch(is_first_on_host=is_first_on_host)
    seconds = settings.alert_profile
    on_fired = (lambda: profile(seconds)) if seconds else lambda: None
    alarms = Alarms(run, recorder, watch, teller, say, on_fired, threading.get_ident())
    return alarms


class Alarms:
    def __init__(
        self,
        run: ActiveRun,
        recorder: Recorder,
        watch: Watch,
        teller: Teller | None,
        say: Callable[[str], None],
        on_fired: Callable[[], None],
        thread: int,
    ) -> None:
        """``teller``: None in a process that leaves the telling to others. ``thread`` trains."""
        self._run = run
        self._writer = run.journal
        self._recorder = recorder
        self._watch = watch
        self._teller = teller
        self._say = say
        self._on_fired = on_fired
        self._whereabouts = Whereabouts(thread)
        self._guard = Guard("alerts")
        self._lock = threading.Lock()
        self.is_over = False
        #: One past the last record that was looked at, and when that was.
        self._next = 0
        self._seen_at = time.monotonic()
        self._reader: JournalReader | None = None
        self._step = -1
        self._raised = 0
        self._lagging = ranks.Lagging()
        self._paced_at = time.monotonic()
        if teller is not None:
            teller.start()
        self._ticking = recorder.every(TICK_SECONDS, self.tick)

    def saw(self, records: Sequence[Numbered]) -> None:
        """The sender has taken these records from the journal."""
        if self._guard.closed:
            return
        with self._guard, self._lock:
            self._look_at(records)

    def tell(self, changes: Iterable[Change]) -> None:
        """What somebody else has found."""
        if self._guard.closed:
            return
        with self._guard, self._lock:
            if not self.is_over:
                self._raise(changes)

    def tick(self) -> None:
        """About once a second."""
        if self._guard.closed:
            return
        with self._guard, self._lock:
            if self.is_over:
                return
            now = time.monotonic()
            if self._writer.position <= self._next:
                self._seen_at = now
            elif now - self._seen_at > BLIND_SECONDS:
                self._read_ahead(now + LAST_LOOK_SECONDS)
            self._raise(self._watch.complete())
            if self._watch.stall.last_step != self._step:
                self._step = self._watch.stall.last_step
                self._whereabouts.look(self._watch.stall.last_time)
            is_validating = self._recorder.split() is not None
            stall = self._watch.stall.look(now, is_validating=is_validating, where=self._whereabouts.in_words)
            self._raise([] if stall is None else [stall])
            if self._run.job is not None:
                self._watch.join()
                if now >= self._paced_at + ranks.PACE_SECONDS:
                    self._paced_at = now
                    self._compare(time.time())

    def finish(self, seconds: float) -> None:
        """The run is about to end: look at its last records, and wait so long at most until what they say is told."""
        self._ticking.remove()
        with self._guard, self._lock:
            if not self.is_over and not self._guard.closed:
                self._read_ahead(time.monotonic() + min(seconds, LAST_LOOK_SECONDS))
                self._raise(self._watch.complete())
            self.is_over = True
        if self._teller is not None:
            self._teller.stop(seconds)

    def abandon_in_child(self) -> None:
        """After a fork, in the child: the run is the parent's."""
        self._ticking.remove()

    # --- private; the lock is held ------------------------------------------------------------------------------------

    def _compare(self, now: float) -> None:
        """This rank with the others on this host."""
        folder = self._writer.folder
        if folder is None:
            return
        if (pace := self._watch.pace.take(now)) is not None:
            ranks.leave(folder, pace)
        if self._teller is not None:
            lag = self._lagging.see(ranks.found(folder.parent, self._run.id, now), now)
            self._raise([] if lag is None else [lag])

    def _look_at(self, records: Iterable[Numbered]) -> None:
        now = time.monotonic()
        for seq, takes, record in records:
            if seq < self._next or self.is_over:
                continue
            self._next = seq + takes
            if type(record) is Points:
                self._raise(self._watch.see(record, now), record.time_ns)
        self._seen_at = now

    def _read_ahead(self, until: float) -> None:
        from looptap.journal.reader import JournalReader  # as in the sender

        end, waiting = self._writer.waiting(self._next)
        folder = self._writer.folder
        if self._reader is None and folder is not None:
            self._reader = JournalReader(folder, start=self._next, journal=self._writer.journal)
        if self._reader is not None:
            self._reader.skip(self._next)
            # Asked before it is read: what has been read is looked at.
            while time.monotonic() < until and (records := self._reader.read(_CHUNK_BYTES, end)):
                self._look_at(records)
        if folder is None:
            self._look_at([(item.seq, item.takes, decode(item.payload)) for item in waiting])

    def _raise(self, changes: Iterable[Change], time_ns: int | None = None) -> None:
        for change in changes:
            if change.state == FIRED:
                self._raised += 1
                if self._raised == MOST_ALERTS + 1:
                    self._recorder.note("alerts", f"there were {MOST_ALERTS} alerts; no more are raised in this run")
            if self._raised > MOST_ALERTS:
                continue
            message = self._recorder.redactor.text(clean(change.message))[:_MESSAGE_CHARACTERS]
            told = change._asdict() | {"message": message}
            alert = Alert(time_ns=time_ns or time.time_ns(), rank=self._run.rank, **told)
            self._recorder.alert(alert)
            if change.state == FIRED:
                self._say(f"alert: {message}")
                self._on_fired()
            if self._teller is not None:
                self._teller.tell(alert)
