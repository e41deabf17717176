"""Passes over data: which loader fed the step, which pass of it this is, and when the pass began."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

_LEFT_LIMIT = 100


class Pass:
    """One iteration over a loader. ``epoch`` counts the passes in which the training stepped, over it and those that it took
    the place of, from 0."""

    __slots__ = ("_epochs", "epoch", "fetched", "is_over", "loader", "split", "started", "trains")

    def __init__(self, loader: Any, epochs: Iterator[int], started: float) -> None:
        #: None once the iteration is gone. Until then the iterator holds the data too, so we keep nothing alive beyond it;
        #: in ``for x in DataLoader(…)`` nobody else holds the loader.
        self.loader = loader
        #: -1 before its first step: a look at the data, or an evaluation of the model on it, is no epoch.
        self.epoch = -1
        self._epochs = epochs
        self.started = started
        #: Batches since the last step of the training.
        self.fetched = 0
        #: Whether a step of the training has come from it.
        self.trains = False
        #: Whether it has handed out all there was.
        self.is_over = False
        #: Which part of the data it goes over, once somebody has asked.
        self.split: str | None = None

    def train(self) -> None:
        """A step of the training took its batch from here."""
        if not self.trains:
            self.trains = True
            self.epoch = next(self._epochs)

    @property
    def is_under_way(self) -> bool:
        """Neither at its end nor left by the program."""
        return not self.is_over and self.loader is not None


class Passes:
    def __init__(self) -> None:
        #: The pass that gave the program its last batch; None where it uses no DataLoader.
        self.feeding: Pass | None = None
        #: The numbers of the epochs to come, by id of the loader. A step may come when the loader is gone.
        self._epochs: dict[int, tuple[weakref.ref[Any], Iterator[int]]] = {}
        #: Where a loader is gone: its dataset, by id, how it was batched, and the epochs to come. A program that makes a new loader
        #: for every pass goes on from there.
        self._left: dict[int, tuple[weakref.ref[Any], Any, Iterator[int]]] = {}
        self._passes: dict[int, tuple[weakref.ref[Any], Pass]] = {}
        #: Id of the iterator that fed last: as long as it goes on, there is nothing to look up.
        self.fed_by = 0

    def begin(self, loader: Any, iterator: Any, now: float) -> None:
        """The loader has handed out an iterator. The same iterator again (persistent workers) is a new pass."""
        key, epochs = id(loader), self._epochs
        if key not in epochs:
            epochs[key] = (weakref.ref(loader, self._leaving(key, loader)), self._epochs_of(loader))
        one, place, passes = Pass(loader, epochs[key][1], now), id(iterator), self._passes

        def over(_: Any) -> None:
            last = passes.pop(place, None)
            if last is not None:
                last[1].loader = None

        passes[place] = (weakref.ref(iterator, over), one)
        self.fed_by = 0

    def _leaving(self, key: int, loader: Any) -> Callable[[Any], None]:
        """What is to be done when this loader is gone."""
        batching, dataset = _batching(loader), getattr(loader, "dataset", None)
        place = id(dataset)
        try:
            reference = weakref.ref(dataset, lambda _: self._left.pop(place, None))
        except TypeError:  # a list, say: nobody could tell whether another one has taken its place in memory
            reference = None

        def left(_: Any) -> None:
            _, epochs = self._epochs.pop(key, (None, count()))
            if reference is not None and reference() is not None and len(self._left) < _LEFT_LIMIT:
                self._left[place] = (reference, batching, epochs)

        return left

    def _epochs_of(self, loader: Any) -> Iterator[int]:
        dataset = getattr(loader, "dataset", None)
        reference, batching, epochs = self._left.pop(id(dataset), (None, None, count()))
        is_successor = reference is not None and reference() is dataset and batching == _batching(loader)
        return epochs if is_successor else count()

    def fed(self, iterator: Any) -> bool:
        """The iterator has handed out a batch. Whether that is another pass than the batch before came from."""
        place = id(iterator)
        known = self._passes.get(place)
        if known is None:
            return False
        is_other = self.feeding is not known[1]
        self.feeding = known[1]
        self.fed_by = place
        known[1].fetched += 1
        return is_other

    def ended(self, iterator: Any) -> Pass | None:
        """The iterator has nothing more to hand out. The pass that is over."""
        known = self._passes.get(id(iterator))
        if known is None:
            return None
        known[1].is_over = True
        return known[1]


def _batching(loader: Any) -> tuple[Any, ...]:
    """Two loaders over one dataset that are alike in this do the same work."""
    return (
        getattr(loader, "batch_size", None),
        getattr(loader, "drop_last", None),
        type(getattr(loader, "sampler", None)),
    )
