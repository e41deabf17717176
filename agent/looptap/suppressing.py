"""Whether what happens is ours to record: not where it is suppressed, where a framework on top records it itself, or where it is
the inside of a call that was recorded as a whole."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from looptap.tees import is_called_by_framework


class Suppressible:
    def __init__(self) -> None:
        #: How many threads suppress, and how many frameworks lead; where it is 0, nobody has to ask for either.
        self.unusual = 0
        #: The threads alone.
        self.suppressing = 0
        self._covers: list[frozenset[str]] = []
        #: All of these together.
        self._covered: frozenset[str] = frozenset()
        self._here = threading.local()

    @contextmanager
    def suppress(self) -> Iterator[None]:
        """Nothing that this thread does inside is recorded."""
        here = self._here
        here.depth = getattr(here, "depth", 0) + 1
        self.unusual += 1
        self.suppressing += 1
        try:
            yield
        finally:
            here.depth -= 1
            self.unusual -= 1
            self.suppressing -= 1

    @contextmanager
    def cover(self, *what: str) -> Iterator[None]:
        """Inside, a framework on top leads the training and records these itself, under its own names: ``loss``, ``lr``,
        ``epoch``, ``grad_norm``, ``validation``, ``data``, ``time`` (of a step and its parts). The layers below leave them
        out, so that nothing is recorded twice, and go on with the rest (steps, settings, files)."""
        covered = frozenset(what)
        self._covers.append(covered)
        self._covered = frozenset().union(*self._covers)
        self.unusual += 1
        try:
            yield
        finally:
            self._covers.remove(covered)
            self._covered = frozenset().union(*self._covers)
            self.unusual -= 1

    def covers(self, what: str) -> bool:
        """Whether a framework on top records this."""
        return what in self._covered

    def is_suppressed(self) -> bool:
        return self.suppressing > 0 and getattr(self._here, "depth", 0) > 0

    @contextmanager
    def tee(self) -> Iterator[bool]:
        """Around a call of the program that hands a value to another tool (a logger, a metric): whether it is ours to record.

        The outermost of such calls is: what a tool calls inside of its own function is the same value again. While a framework on
        top leads, calls that its own loggers make are left out too.
        """
        here = self._here
        outer = getattr(here, "tees", 0)
        here.tees = outer + 1
        try:
            yield outer == 0 and not self.is_suppressed() and not (self.covers("loss") and is_called_by_framework())
        finally:
            here.tees = outer
