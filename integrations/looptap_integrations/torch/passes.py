"""Passes over data: which loader fed the step, which pass of it this is, and when the pass began."""

from __future__ import annotations

import weakref
from typing import Any


class Pass:
    """One iteration over a loader. ``epoch`` counts the passes of that loader from 0."""

    __slots__ = ("epoch", "loader", "started")

    def __init__(self, loader: Any, epoch: int, started: float) -> None:
        #: None once the iteration is gone. Until then the iterator holds the data too, so we keep nothing alive beyond it;
        #: in ``for x in DataLoader(…)`` nobody else holds the loader.
        self.loader = loader
        self.epoch = epoch
        self.started = started


class Passes:
    def __init__(self) -> None:
        #: The pass that gave the program its last batch; None where it uses no DataLoader.
        self.feeding: Pass | None = None
        self._epochs: dict[int, tuple[weakref.ref[Any], int]] = {}
        self._passes: dict[int, tuple[weakref.ref[Any], Pass]] = {}
        #: Id of the iterator that fed last: as long as it goes on, there is nothing to look up.
        self._fed_by = 0

    def begin(self, loader: Any, iterator: Any, now: float) -> None:
        """The loader has handed out an iterator. The same iterator again (persistent workers) is a new pass."""
        key, epochs = id(loader), self._epochs
        known = epochs.get(key)
        if known is None:
            epochs[key] = (weakref.ref(loader, lambda _: epochs.pop(key, None)), 0)
        else:
            epochs[key] = (known[0], known[1] + 1)
        one, place, passes = Pass(loader, epochs[key][1], now), id(iterator), self._passes

        def over(_: Any) -> None:
            last = passes.pop(place, None)
            if last is not None:
                last[1].loader = None

        passes[place] = (weakref.ref(iterator, over), one)
        self._fed_by = 0

    def fed(self, args: tuple[Any, ...]) -> None:
        """``iterator.__next__`` has handed out a batch; ``args`` are its arguments."""
        place = id(args[0])
        if place == self._fed_by:
            return
        known = self._passes.get(place)
        if known is not None:
            self.feeding = known[1]
            self._fed_by = place
