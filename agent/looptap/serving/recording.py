"""The thread that counts what a serving process has answered, and writes each window to the journal when it is over.

It looks a few times a second; what it has counted of the windows that are open lies beside the journal from one second to the next,
where whoever adopts the journal of a killed process finds it (:mod:`looptap.adoption`). So a kill costs the last second of counts,
and nothing else.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from looptap.events import Window
from looptap.guard import Guard
from looptap.journal import beside
from looptap.serving.traffic import TRAFFIC

if TYPE_CHECKING:
    from looptap.alerts.latch import Change
    from looptap.serving.drift import Drifts, Reference
    from looptap.serving.windows import Windows
    from looptap.session import ActiveRun, Session

LOOK_SECONDS = 0.25
SAVE_SECONDS = 1.0
#: What is beside a journal is called so.
NAME = "windows"
_MOST_BYTES = 16 * 2**20
#: How long the end of a run waits for a look that is under way.
_LAST_LOOK_SECONDS = 1.0


class Recording:
    """Of this process."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lock = threading.Lock()
        self.guard = Guard("serving")
        self._thread: threading.Thread | None = None
        self._over = threading.Event()
        #: That what is counted has a run, and which; the session knows of none any more when it ends.
        self._has_run = threading.Event()
        self._run: ActiveRun | None = None
        #: Somebody wants to know what is answered.
        self.is_wanted = False
        self._windows: Windows | None = None
        self._drifts: Drifts | None = None
        self._counting = threading.Lock()
        self._saved_at = 0.0
        #: Seconds of processor time that this process had used, and when.
        self._used: tuple[float, float] | None = None

    def start(self) -> bool:
        """A request is there that nobody counts. Returns whether it is counted from now on."""
        if not self.is_wanted:
            return False
        with self._lock:
            if TRAFFIC.is_counted:
                return True
            if not self._session.settings.enabled or self.guard.closed:
                self.is_wanted = False
                return False
            from looptap.serving.windows import Windows  # processes that only train have no time for it

            self._over, self._has_run = threading.Event(), threading.Event()
            self._windows = Windows()
            self._drifts = self._drifts_of_run()
            self._thread = threading.Thread(
                target=self._live, args=(self._over, self._windows), name="looptap-serving", daemon=True
            )
            try:
                self._thread.start()
            except RuntimeError:  # the interpreter is shutting down
                return False
            TRAFFIC.is_counted = True
            return True

    def wait_for_run(self, seconds: float) -> None:
        """Of the first requests: the thread that counts them begins it."""
        if TRAFFIC.is_counted:
            self._has_run.wait(seconds)

    def finish(self) -> None:
        """The run is about to end: what has been answered until now is in the journal when this returns."""
        with self._lock:
            thread, self._thread = self._thread, None
            TRAFFIC.is_counted = False
            windows = self._windows
        if thread is None or windows is None:
            return
        self._over.set()
        if thread is not threading.current_thread():
            thread.join(_LAST_LOOK_SECONDS)
        with self.guard:
            TRAFFIC.end_on_device(most=0)
            self._look(windows, is_last=True)

    def after_fork_in_child(self) -> None:
        """The thread, and what it has counted, are the parent's."""
        TRAFFIC.after_fork_in_child()
        self._lock, self._counting = threading.Lock(), threading.Lock()
        self._thread, self._windows = None, None

    # --- private; in the thread -----------------------------------------------------------------------------------------

    def _live(self, over: threading.Event, windows: Windows) -> None:
        with self.guard:
            windows.begin(time.perf_counter_ns())
            self._used = (time.process_time(), time.monotonic())
            self._session.begin_serving()
            self._run = self._session.run
            self._has_run.set()
        while not over.wait(LOOK_SECONDS) and not self.guard.closed:
            with self.guard:
                self._look(windows)
        if self.guard.closed:
            TRAFFIC.is_counted = False

    def _look(self, windows: Windows, *, is_last: bool = False) -> None:
        with self._counting:
            done = TRAFFIC.done
            while done:
                request = done.popleft()
                if request.ended >= windows.end_ns:
                    self._turn(windows, request.ended)
                for call in request.calls:
                    if not call.model.is_read:
                        call.model.read()
                windows.count(request)
            while TRAFFIC.outcomes:
                windows.outcome(TRAFFIC.outcomes.popleft())
            if self._drifts is not None:
                for model in windows.models():
                    self._drifts.look_for(model)
            at = time.perf_counter_ns()
            if is_last or at >= windows.end_ns:
                self._turn(windows, at)
            elif time.monotonic() >= self._saved_at + SAVE_SECONDS:
                self._saved_at = time.monotonic()
                self._save(windows.so_far())

    def _turn(self, windows: Windows, at: int) -> None:
        """The windows that are open are over, and others begin."""
        TRAFFIC.leave_on_device(windows.since_ns)
        closed = windows.close(list(TRAFFIC.live))
        resources = self._resources()
        record = self._session.recorder
        for window in closed:
            record.window(msgspec.structs.replace(window, resources=resources))
        if self._drifts is not None:
            self._raise(self._drifts.see(closed))
        dropped, TRAFFIC.dropped = TRAFFIC.dropped, 0
        if dropped:
            record.drop("not_counted", dropped)
        self._save([])
        windows.look_at_clock()
        windows.begin(at)

    def _drifts_of_run(self) -> Drifts | None:
        if not self._session.settings.alerts:
            return None
        from looptap.serving.drift import Drifts

        return Drifts(self._reference, lambda said: self._session.recorder.note("drift", said))

    def _reference(self, fingerprints: tuple[str, ...]) -> Reference | None:
        """As the store of the run under way has it."""
        run = self._session.run
        if run is None:
            return None
        from looptap.reading.reference import reference

        return reference(run.store, fingerprints, self._session.settings)

    def _raise(self, changes: Iterable[Change]) -> None:
        run = self._run
        if run is not None and run.alarms is not None:
            run.alarms.tell(changes)

    def _save(self, windows: list[Window]) -> None:
        run = self._session.run
        folder = None if run is None else run.journal.folder
        if folder is None:
            return
        place = beside.place(folder, NAME)
        with suppress(OSError):  # a full disk: they are written when they are over, if it has room by then
            if windows:
                beside.leave(place, windows)
            else:
                forget_left_behind(folder)

    def _resources(self) -> dict[str, float]:
        """Of this process, since the last time."""
        import psutil  # as the sampler: the import of looptap has no time for it

        found = {"system.process.memory": float(psutil.Process().memory_info().rss)}
        before, self._used = self._used, (time.process_time(), time.monotonic())
        if before is not None and self._used[1] > before[1]:
            found["system.process.cpu"] = 100 * (self._used[0] - before[0]) / (self._used[1] - before[1])
        return found


def forget_left_behind(folder: Path) -> None:
    with suppress(OSError):
        os.unlink(beside.place(folder, NAME))


def left_behind(folder: Path) -> list[Window]:
    """What a dead process had counted of the windows that were open."""
    return beside.found(beside.place(folder, NAME), list[Window], most_bytes=_MOST_BYTES) or []
