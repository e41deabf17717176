"""The files of a run travel in a lane of their own: a journal and a sender beside those of its points, so that no point waits
behind a large file. For the store it is one more journal of the run, as a forked child has one.

Nothing of it exists before the first file.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from looptap.journal.writer import JournalWriter
from looptap.sender import Sender, SenderState


class FileLane:
    """Of one run in one process. Safe to use from several threads."""

    def __init__(
        self, open_journal: Callable[[], JournalWriter], open_sender: Callable[[JournalWriter], Sender | None]
    ) -> None:
        """``open_sender`` gives None when no thread can be started any more: the journal then keeps what there is."""
        self._open_journal = open_journal
        self._open_sender = open_sender
        # A signal handler on this thread must get in.
        self._lock = threading.RLock()
        self._journal: JournalWriter | None = None
        self.sender: Sender | None = None

    def journal(self) -> JournalWriter:
        """Where records of files go; opened by the first call."""
        journal = self._journal
        if journal is None:
            with self._lock:
                journal = self._journal
                if journal is None:
                    journal = self._open_journal()
                    self.sender = self._open_sender(journal)
                    self._journal = journal
        return journal

    @property
    def opened(self) -> JournalWriter | None:
        return self._journal

    def state(self) -> SenderState | None:
        return self.sender.state() if self.sender is not None else None

    def flush(self, timeout: float) -> bool:
        if self._journal is None:
            return True
        return self.sender is not None and self.sender.flush(timeout)

    def hurry(self, timeout: float) -> None:
        """The run ends: deliver what is left, now. Returns at once."""
        if self.sender is not None:
            self.sender.hurry(timeout)

    def stop(self, timeout: float) -> bool:
        """True when every file is in the store, or told why not, within this time. What is not stays in the journal."""
        journal = self._journal
        if journal is None:
            return True
        delivered = self.sender is not None and self.sender.stop(timeout)
        journal.close()
        if delivered:
            journal.remove()
        return delivered

    def abandon_in_child(self) -> None:
        """After a fork, in the child: all of this is the parent's."""
        if self._journal is not None:
            self._journal.abandon_in_child()


class Telling:
    """What the senders of one run say to the user: when both of them find the store away, or back, it is said once."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._last: str | None = None

    def __call__(self, line: str) -> None:
        last, self._last = self._last, line
        if line != last:
            self._say(line)


def both(first: Callable[[float], bool], second: Callable[[float], bool], timeout: float) -> bool:
    """Wait for one and then for the other, together no longer than this; whether both are there."""
    deadline = time.monotonic() + timeout
    is_first = first(timeout)
    return second(max(0.0, deadline - time.monotonic())) and is_first
