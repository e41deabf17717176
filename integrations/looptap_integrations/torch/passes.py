"""Passes over data: which loader fed the step, which pass of it this is, and when the pass began."""

from __future__ import annotations

import weakref
from typing import Any


class Pass:
    """One iteration over a loader. ``epoch`` counts the passes of that loader from 0."""

    __slots__ = ("epoch", "loader", "started")

    def __init__(self, loader: weakref.ref[Any], epoch: int, started: float) -> None:
        self.loader = loader
        self.epoch = epoch
        self.started = started


class Passes:
    def __init__(self) -> None:
        #: The pass that gave the program its last batch; None where it uses no DataLoader.
        self.feeding: Pass | None = None
        self._epochs: dict[int, tuple[weakref.ref[Any], int]] = {}
        self._passes: dict[int, tuple[weakref.ref[Any], Pass]] = {}

    def begin(self, loader: Any, iterator: Any, now: float) -> None:
        """The loader has handed out an iterator. The same iterator again (persistent workers) is a new pass."""
        known = self._epochs.get(id(loader))
        epoch = known[1] + 1 if known else 0
        key, epochs = id(loader), self._epochs
        reference = known[0] if known else weakref.ref(loader, lambda _: epochs.pop(key, None))
        epochs[key] = (reference, epoch)
        place, passes = id(iterator), self._passes
        old = passes.get(place)
        held = old[0] if old else weakref.ref(iterator, lambda _: passes.pop(place, None))
        passes[place] = (held, Pass(reference, epoch, now))

    def fed(self, iterator: Any) -> None:
        """The iterator has handed out a batch."""
        known = self._passes.get(id(iterator))
        if known is not None:
            self.feeding = known[1]
