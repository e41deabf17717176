"""What is looked at again and again beside the training, in one daemon thread that is there only while a run is under way and
somebody has asked for it."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

#: How long the end of a run waits for a last look.
_LAST_LOOK_SECONDS = 1.0
_PAUSE_SECONDS = 1.0


class Regularly:
    """One function that is called now and then. ``remove()`` ends that."""

    def __init__(self, rhythm: Rhythm, seconds: float, function: Callable[[], object]) -> None:
        self._rhythm = rhythm
        self.seconds = seconds
        self.function = function
        self.due = 0.0

    def remove(self) -> None:
        self._rhythm.forget(self)


class Rhythm:
    """:meth:`every` at any time; :meth:`start` and :meth:`stop` with each run."""

    def __init__(self) -> None:
        self._wanted: list[Regularly] = []
        self._is_running = False
        self._thread: threading.Thread | None = None
        self._over = threading.Event()

    def every(self, seconds: float, function: Callable[[], object]) -> Regularly:
        """Call it when a run begins, about that often while it is under way, and when it ends; it must return soon, and not raise.

        Never early and never twice at a time; late when the machine is busy."""
        one = Regularly(self, seconds, function)
        self._wanted.append(one)
        if self._is_running:
            self._start_thread()
        return one

    def forget(self, one: Regularly) -> None:
        if one in self._wanted:
            self._wanted.remove(one)

    def start(self) -> None:
        """A run begins. Raises RuntimeError when the interpreter is shutting down and starts no threads."""
        self._is_running = True
        if self._wanted:
            self._start_thread()

    def stop(self) -> None:
        """The run is about to end: one last look, and no further one when this returns (unless a function takes too long)."""
        self._is_running = False
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._over.set()
        if thread is not threading.current_thread():
            thread.join(_LAST_LOOK_SECONDS)

    def after_fork_in_child(self) -> None:
        """The thread is the parent's, and so is what it looks at."""
        self._is_running, self._thread, self._over = False, None, threading.Event()

    # --- private ------------------------------------------------------------------------------------------------------

    def _start_thread(self) -> None:
        if self._thread is None:
            self._over = threading.Event()
            self._thread = threading.Thread(target=self._live, args=(self._over,), name="looptap-rhythm", daemon=True)
            self._thread.start()

    def _live(self, over: threading.Event) -> None:
        for one in list(self._wanted):
            one.due = 0.0
        while True:
            wanted = list(self._wanted)
            next_due = min((one.due for one in wanted), default=math.inf)
            # Not longer than that: there may be one more by then.
            pause = min(max(0.0, next_due - time.monotonic()), _PAUSE_SECONDS)
            is_over = over.wait(pause)
            for one in wanted:
                if is_over or one.due <= time.monotonic():
                    one.function()
                    one.due = time.monotonic() + one.seconds
            if is_over:
                return
