"""Reads the resources of a run again and again, beside the training.

A thread of its own: a reader may take its time (a driver that hangs, a network disk that is away), which what integrations look at
regularly (:mod:`looptap.rhythm`) must not wait for. The first sample is taken when the run begins, the last one when it ends.
Between them there are ``sample_seconds`` (one) at first, and more later on: a sample is never less than a six-hundredth of the run
so far, and ten seconds at most. It is longer where a sample costs so much that the thread would take more than 0.3 % of a core.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from looptap.guard import is_strict
from looptap.resources.reader import Absent, Metric, Reader, Subject, Unreadable

if TYPE_CHECKING:
    from looptap.recorder import Recorder

GROUP = "looptap.readers"
#: The share of a core that the thread takes at most.
SHARE = 0.003
COST = Metric(
    "system.sampler.cost", "seconds", "processor time that this sample took; opening the readers is not in it"
)
SOURCE = "allotment"
_LONGEST_SECONDS = 10.0
_LONGER_AFTER = 600
#: How long the end of a run waits for the last sample.
_LAST_SAMPLE_SECONDS = 1.0
_RETRY_SECONDS, _LONGEST_RETRY_SECONDS = 10.0, 600.0


def pause(elapsed: float, cost: float, seconds: float, share: float) -> float:
    """Seconds between two samples, so long after the run began, where one costs so much processor time."""
    return max(seconds, min(_LONGEST_SECONDS, elapsed / _LONGER_AFTER), cost / share)


def usual_cost(before: float, spent: float, number: int) -> float:
    """What a sample costs, after sample ``number`` has taken ``spent``. The first one finds everything cold and says nothing of
    those to come. Later on, one that was dear (something was slow for once) must not silence the next minute."""
    return before + (spent - before) / min(number, 4) if number else 0.0


class Sampler:
    """:meth:`start` when the run has begun, :meth:`stop` when it ends."""

    def __init__(
        self,
        record: Recorder,
        subject: Subject,
        seconds: float = 1.0,
        readers: Callable[[], Mapping[str, Callable[[], type[Reader]]]] | None = None,
    ) -> None:
        """``readers`` is called in the thread; without it, those that are installed are read."""
        self._record = record
        self._subject = subject
        self._seconds = seconds
        self._readers = readers or discover
        self._over = threading.Event()
        #: A reader took too long, and the run has ended without us.
        self._is_left_behind = False
        self._thread = threading.Thread(target=self._live, name="looptap-sampler", daemon=True)

    def start(self) -> None:
        """Raises RuntimeError when the interpreter is shutting down and starts no threads."""
        self._thread.start()

    def stop(self) -> None:
        """One last sample, unless a reader takes too long."""
        self._over.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(_LAST_SAMPLE_SECONDS)
        self._is_left_behind = True

    # --- private; in the thread -----------------------------------------------------------------------------------------

    def _live(self) -> None:
        began = time.monotonic()
        sources = [Source(name, load, self._subject, self._tell) for name, load in self._readers().items()]
        for source in sources:
            for key, value in source.open(began).items():
                self._tell_param(key, value)
        number, cost = 0, 0.0
        while True:
            is_last = self._over.is_set()
            spent = self.sample(sources, number)
            cost = usual_cost(cost, spent, number)
            number += 1
            if is_last:
                break
            self._over.wait(pause(time.monotonic() - began, cost, self._seconds, SHARE))
        for source in sources:
            source.close()

    def sample(self, sources: list[Source], number: int) -> float:
        """Returns the processor time that it took, in seconds."""
        began = time.thread_time()
        values: dict[str, float] = {}
        for source in sources:
            values |= source.read(time.monotonic())
        values[COST.name] = time.thread_time() - began
        if not self._is_left_behind and self._record.is_under_way():
            self._record.metrics(values, number)
        return time.thread_time() - began

    def _tell_param(self, key: str, value: Any) -> None:
        if not self._is_left_behind:
            self._record.param(key, value, SOURCE)

    def _tell(self, message: str) -> None:
        if not self._is_left_behind:
            self._record.note("resources", message)


class Source:
    """One reader, and how it fares."""

    def __init__(
        self, name: str, load: Callable[[], type[Reader]], subject: Subject, note: Callable[[str], None]
    ) -> None:
        self._name = name
        self._load = load
        self._subject = subject
        self._note = note
        self._reader: Reader | None = None
        self._failures = 0
        self._retry_at = 0.0
        self._has_told = False

    def open(self, now: float) -> dict[str, Any]:
        """Returns what the run was given of it."""
        try:
            reader = self._load()()
            if not reader.is_wanted(self._subject):
                self._retry_at = now + _RETRY_SECONDS  # a process learns of its job after its run has begun
                return {}
            self._reader = reader
            reader.open(self._subject)
            return reader.allotted()
        except Exception as error:  # noqa: BLE001 - a third party's reader may raise anything
            self._failed(error, now)
            return {}

    def read(self, now: float) -> dict[str, float]:
        if self._reader is None and now >= self._retry_at:
            self.open(now)
        reader = self._reader
        if reader is None:
            return {}
        try:
            if not reader.is_wanted(self._subject):
                return {}
            values = reader.read(now)
            self._failures = 0
            return values
        except Exception as error:  # noqa: BLE001
            self._failed(error, now)
            return {}

    def close(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            try:
                reader.close()
            except Exception as error:  # noqa: BLE001
                self._tell(error)

    def _failed(self, error: Exception, now: float) -> None:
        self.close()
        if isinstance(error, Absent):
            self._retry_at = float("inf")
            return
        self._tell(error)
        self._retry_at = now + min(_LONGEST_RETRY_SECONDS, _RETRY_SECONDS * 2.0 ** min(self._failures, 10))
        self._failures += 1
        if is_strict() and not isinstance(error, Unreadable):
            raise error

    def _tell(self, error: Exception) -> None:
        """Once, however often it fails."""
        if not self._has_told:
            self._has_told = True
            told = str(error) if isinstance(error, Unreadable) else f"{type(error).__name__}: {error}"
            self._note(f"{self._name}: {told}"[:500])


def discover() -> dict[str, Callable[[], type[Reader]]]:
    """What loads each reader that is installed, by name."""
    from importlib import metadata  # the import of looptap has no time for it

    return {point.name: point.load for point in metadata.entry_points(group=GROUP)}
