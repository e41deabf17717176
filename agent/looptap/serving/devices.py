"""Answers that lie on a device: what is fetched from there arrives later, and nothing waits for it.

An integration that can fetch without a wait offers to do so (:attr:`Devices.offered`). Until a first answer lies on a device,
nobody is asked, and a process without one pays nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Later:
    """Rows that are on their way; ``value`` is there once the device has done so."""

    __slots__ = ("rows", "value")

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.value: Any = None


class Mark(Protocol):
    """The beginning of a call, among the work that the device has."""

    def end(self) -> None:
        """The call has handed over all of its work."""


class Waiting(Protocol):
    """What one call has on its way."""

    def is_done(self) -> bool:
        """Whether it has arrived. Asks the device, so for threads of the program only; never waits."""

    def take(self) -> int:
        """Once, when it is done: every :class:`Later` has its value then. Returns the nanoseconds that the device took for the
        call; 0 where they are not known."""

    def leave(self) -> None:
        """Nobody will ask for it: its room is free once it is done."""


class Fetching(Protocol):
    """The calls are those of one thread at a time, in this order; different threads do not see each other's copies."""

    def begin(self, place: Any) -> Mark | None:
        """A call begins whose last answer lay at this place. None where it cannot be timed."""

    def fetch(self, tensor: Any, rows: int, step: int) -> Later | None:
        """Every ``step``-th row of a tensor on a device, ``rows`` in all. None where it cannot be had without a wait, or there is
        no room."""

    def seal(self, mark: Mark | None) -> tuple[Waiting, Any] | None:
        """All that this thread has fetched since the last time, and the place where it lay; None where there was nothing."""


class Devices:
    def __init__(self) -> None:
        #: Makes a :class:`Fetching`, when it is needed.
        self.offered: Callable[[], Fetching] | None = None
        #: Since the first answer on a device.
        self.fetching: Fetching | None = None

    def forget(self) -> None:
        self.offered = self.fetching = None

    def fetch(self, tensor: Any, rows: int, step: int) -> Later | None:
        if self.fetching is None:
            if self.offered is None:
                return None
            self.fetching = self.offered()
        return self.fetching.fetch(tensor, rows, step)


DEVICES = Devices()
