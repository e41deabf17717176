"""Ships the journal of a run to its store, beside the training.

One daemon thread, awake about once a second. Whatever goes wrong in it (a store that hangs, refuses or is full; a collector that
is not installed) costs nothing but time: the records stay in the journal, the attempt is repeated after a pause that grows with
every failure, and what cannot be delivered while the process lives is delivered by the next ``looptap`` command. A store that
asks to be left alone for a while hears nothing in that time, and then the end of the program does not wait for it.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from looptap.journal.folder import make_durable
from looptap.journal.writer import JournalWriter
from looptap.settings import Settings
from looptap.sinks import NeedsUser, Sink, Unavailable, open_sink

if TYPE_CHECKING:
    from looptap.journal.batching import Numbered
    from looptap.journal.courier import Courier

HEARTBEAT_SECONDS = 10.0
BACKOFF_BASE_SECONDS = 0.5
BACKOFF_CAP_SECONDS = 30.0
#: An outage that is over sooner is nobody's business.
OUTAGE_TOLD_SECONDS = 5.0
_NICE = 10


@dataclass(frozen=True)
class SenderState:
    """``position``: records before this number are in the store, or lost and counted. ``stored`` and ``points_stored`` count what
    this sender delivered. ``in_journal`` counts what is still to be delivered. ``error`` is what failed last, in one line, None
    when the last attempt went well; ``retries`` counts failed attempts so far."""

    position: int
    stored: int
    points_stored: int
    in_journal: int
    error: str | None
    retries: int


class Sender:
    """:meth:`start`, any number of :meth:`flush`, one :meth:`stop`; all of them from any thread."""

    def __init__(
        self,
        writer: JournalWriter,
        run_id: str,
        open_sink: Callable[[], Sink],
        *,
        interval: float = 1.0,
        exit_timeout: float = 5.0,
        warn: Callable[[str], None] | None = None,
        is_nice: bool = False,
        show: Callable[[Sequence[Numbered]], None] | None = None,
    ) -> None:
        """``open_sink`` is called in the thread: it may import, connect and fail. ``interval``: seconds between deliveries.
        ``warn`` gets one line once in an outage: at once for what only the user can mend, else when it has lasted for a while; and
        one line when an outage that was told is over. ``is_nice``: the thread gets a processor when nobody else wants it.
        ``show`` gets the records that are taken from the journal, before they are delivered."""
        self._writer = writer
        self._run_id = run_id
        self._open_sink = open_sink
        self._interval = interval
        self._exit_timeout = exit_timeout
        self._warn = warn
        self._is_nice = is_nice
        self._show = show
        #: When the outage under way is told (time.monotonic); infinity when there is none, or it was told.
        self._tell_at = math.inf
        self._has_warned = False
        self._courier: Courier | None = None
        self._error: str | None = None
        self._retries = 0
        self._failures_in_a_row = 0
        #: However much somebody waits for us: the store is left alone until then.
        self._not_before = 0.0
        self._stop_by: float | None = None
        self._hurry = threading.Event()
        self._progress = threading.Condition()
        self._thread = threading.Thread(target=self._live, name="looptap-sender", daemon=True)

    def start(self) -> None:
        """Raises RuntimeError when the interpreter is shutting down and starts no threads: the journal then keeps everything."""
        self._thread.start()

    def flush(self, timeout: float) -> bool:
        """Wait until what was recorded before the call is in the store; False when that takes more than ``timeout`` seconds."""
        return self._wait_for(self._writer.position, timeout)

    def hurry(self, timeout: float) -> None:
        """:meth:`stop` will be called, and then has what is left of ``timeout`` seconds. Returns at once."""
        self._stop_by = time.monotonic() + timeout
        self._hurry.set()

    def stop(self, timeout: float | None = None) -> bool:
        """Deliver what is left and end the thread. Waits at most ``timeout`` seconds (default: ``exit_timeout``).

        True when everything that was recorded is in the store. False: the rest stays in the journal.
        """
        timeout = self._exit_timeout if timeout is None else timeout
        deadline = time.monotonic() + timeout
        self._stop_by = deadline
        delivered = self._wait_for(self._writer.position, timeout)
        self._hurry.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(max(0.0, deadline - time.monotonic()))
        return delivered

    def state(self) -> SenderState:
        courier = self._courier
        emitted = self._writer.position
        if courier is None:
            return SenderState(0, 0, 0, emitted, self._error, self._retries)
        return SenderState(
            position=courier.position,
            stored=courier.stored,
            points_stored=courier.points_stored,
            in_journal=max(0, emitted - courier.position),
            error=self._error or courier.problem,
            retries=self._retries,
        )

    # --- private ------------------------------------------------------------------------------------------------------

    def _is_delivered(self, position: int) -> bool:
        return self._courier is not None and self._courier.position >= position

    def _wait_for(self, position: int, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        with self._progress:
            self._hurry.set()
            while not self._is_delivered(position):
                left = deadline - time.monotonic()
                if left <= 0 or not self._thread.is_alive() or self._not_before >= deadline:
                    return False
                # Not longer at once: a thread that has died in a fork or at shutdown notifies nobody.
                self._progress.wait(min(left, 0.1))
        return True

    def _live(self) -> None:
        folder = self._writer.folder
        pause = 0.0
        if self._is_nice:
            _be_nice()
        try:
            if folder is not None:
                make_durable(folder)
        except OSError as error:
            self._error = f"the journal's folder cannot be made durable: {error}"
        while True:
            if not self._rest(pause):
                break
            began = time.monotonic()
            try:
                self._deliver_all()
                self._gets_on()
                self._error, pause = None, self._interval
            except BaseException as error:  # noqa: BLE001 - the store's code may raise anything, and there is nobody above us
                pause = self._failed(error, began)
            with self._progress:
                self._progress.notify_all()
            if self._is_over():
                break
        self._close_sink()

    def _rest(self, pause: float) -> bool:
        """Whoever waits for us cuts the pause short, but only so far. False when the end of the program comes before that."""
        # The end of the program waits for us for a few seconds only: no long pause then.
        self._wait(pause if self._stop_by is None else min(pause, BACKOFF_BASE_SECONDS))
        while (left := self._not_before - time.monotonic()) > 0:
            if self._is_over():
                return False
            self._wait(left)
        return True

    def _wait(self, seconds: float) -> None:
        """Until somebody waits for us, and tell of an outage when it is time for that."""
        until_told = max(0.0, self._tell_at - time.monotonic())
        if until_told < seconds and not self._hurry.wait(until_told):
            self._tell(f"{self._error} · training goes on, records wait in the journal")
            seconds -= until_told
        self._hurry.wait(seconds)
        self._hurry.clear()

    def _failed(self, error: BaseException, began: float) -> float:
        """Returns the pause after it. ``began``: when the attempt did."""
        if self._failures_in_a_row == 0:
            self._tell_at = began + OUTAGE_TOLD_SECONDS
        self._error = _describe(error)
        self._retries += 1
        pause = backoff(self._failures_in_a_row)
        self._failures_in_a_row += 1
        least = min(pause, BACKOFF_BASE_SECONDS)
        if isinstance(error, Unavailable) and error.retry_after:
            # Later, never earlier, and not all of us at once.
            least = error.retry_after * random.uniform(1.0, 1.2)
        self._not_before = time.monotonic() + least
        if isinstance(error, NeedsUser):
            self._tell(f"{self._error} · until then, records wait in the journal")
        return max(pause, least)

    def _gets_on(self) -> None:
        has_warned, self._has_warned = self._has_warned, False
        self._failures_in_a_row, self._tell_at = 0, math.inf
        if has_warned and self._warn is not None and self._stop_by is None:
            self._warn("the store takes records again, those that waited first")

    def _tell(self, line: str) -> None:
        self._tell_at = math.inf
        if self._warn is not None and not self._has_warned:
            self._has_warned = True
            self._warn(line)

    def _deliver_all(self) -> None:
        courier = self._courier
        if courier is None:
            courier = self._courier = self._open()
        while True:
            # Before the rest: a file that takes long, or fails again and again, does not make the run look dead.
            if time.monotonic() >= courier.heard_at + HEARTBEAT_SECONDS:
                courier.heartbeat()
            if not courier.deliver_next():
                return
            self._gets_on()
            with self._progress:
                self._progress.notify_all()
            if self._stop_by is not None and time.monotonic() >= self._stop_by:
                return
            time.sleep(0)

    def _open(self) -> Courier:
        # Imported by the sender's own thread: the import of looptap is waited for.
        from looptap.journal.courier import Courier
        from looptap.journal.reader import JournalReader

        sink = self._open_sink()
        folder = self._writer.folder
        reader = JournalReader(folder, journal=self._writer.journal) if folder is not None else None
        try:
            return Courier(self._run_id, self._writer.journal, sink, reader, self._writer, self._show)
        except BaseException:
            sink.close()
            raise

    def _is_over(self) -> bool:
        if self._stop_by is None:
            return False
        if self._is_delivered(self._writer.position):
            return True
        return max(time.monotonic(), self._not_before) >= self._stop_by

    def _close_sink(self) -> None:
        if self._courier is None:
            return
        try:
            self._courier.sink.close()
        except Exception as error:  # noqa: BLE001 - everything is delivered or in the journal by now
            self._error = _describe(error)


def under_way(
    journal: JournalWriter,
    run: str,
    store: str,
    chosen: Settings,
    warn: Callable[[str], None],
    is_nice: bool = False,
    show: Callable[[Sequence[Numbered]], None] | None = None,
) -> Sender | None:
    """A sender that has been started. None when the interpreter is shutting down and starts no threads any more (3.12): the
    journal keeps everything, and the next looptap command delivers it."""
    sender = Sender(
        journal,
        run,
        lambda: open_sink(store, chosen),
        interval=chosen.send_interval,
        exit_timeout=chosen.exit_timeout,
        warn=warn,
        is_nice=is_nice,
        show=show,
    )
    try:
        sender.start()
    except RuntimeError:
        return None
    return sender


def backoff(failures: int) -> float:
    """Seconds to wait after so many failures in a row: anything up to a bound that doubles (full jitter), so that many senders of
    one store do not come back together."""
    bound: float = min(BACKOFF_CAP_SECONDS, BACKOFF_BASE_SECONDS * 2.0 ** min(failures, 30))
    return random.uniform(0.0, bound)


def _be_nice() -> None:
    """Of this thread only, which is possible on Linux."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, max(_NICE, os.getpriority(os.PRIO_PROCESS, thread)))


def _describe(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    if isinstance(error, Unavailable) and lines:
        return lines[0][:500]
    return f"{type(error).__name__}: {lines[0]}"[:500] if lines else type(error).__name__
