"""What a server does beside answering: it keeps its tokens fresh, marks runs that have fallen silent, makes the long series of runs
that have ended quick to draw, and keeps what was served long ago in longer windows."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from looptap_collector.backend import Backend

#: A series of fewer full chunks (about 40,000 points) is quick to draw as it is.
_MANY_CHUNKS = 16
_log = logging.getLogger("looptap.collector")


@dataclass
class Chore:
    """Something to do every so many seconds."""

    name: str
    every_seconds: float
    do: Callable[[], object]
    due: float = field(default_factory=time.monotonic)
    fails: bool = False


class Upkeep:
    """One thread for all chores of a server. A chore that fails is tried again when it is due again; that it fails is
    logged once, until it works."""

    def __init__(self, chores: list[Chore]) -> None:
        self._chores = chores
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._live, name="looptap-upkeep", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _live(self) -> None:
        while not self._over.is_set():
            for chore in self._chores:
                if time.monotonic() >= chore.due:
                    self._run(chore)
                    chore.due = time.monotonic() + chore.every_seconds
            next_due = min(chore.due for chore in self._chores)
            self._over.wait(max(0.05, next_due - time.monotonic()))

    def _run(self, chore: Chore) -> None:
        try:
            chore.do()
        except Exception as error:  # noqa: BLE001 - the store may raise anything; the next chore must still be done
            if not chore.fails:
                _log.warning("%s: %s: %s", chore.name, type(error).__name__, " ".join(str(error).split()))
            chore.fails = True
        else:
            chore.fails = False


def compact_ended(backend: Backend, ended: queue.SimpleQueue[str]) -> None:
    """Compact the runs of the queue. One that cannot be compacted now is left to ``looptap store compact``."""
    while True:
        try:
            run = ended.get_nowait()
        except queue.Empty:
            return
        backend.compact(run=run, at_least=_MANY_CHUNKS)
