"""What a loop of the program's own is fed from, and whether that trains or evaluates.

A data set trains when a step was taken with a batch of it. A pass of several batches without a step, in a training that has
begun, is to validate, or to test where the data set or its variable is called so. Where steps are made on a device, they show too
late to tell them apart, and it is the names alone that say what a data set is for.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any

import tensorflow
from tensorflow.python.data.ops.iterator_ops import OwnedIterator
from tensorflow.python.distribute.input_lib import DistributedDataset, DistributedIteratorBase

from looptap.describing import Description
from looptap.frames import outward, package_of, variables_in_reach
from looptap.patching import Call, Observation, Patcher
from looptap.recorder import Recorder
from looptap.splits import TEST, TRAIN, VALIDATION, split_in

#: Of data sets that a program makes for every file or epoch, these are looked at.
_MOST_DESCRIBED = 100
#: One batch may be looked at for any reason.
_SEVERAL = 2
_BETWEEN = ("looptap", "looptap_integrations", "tensorflow")
_MOST_FRAMES = 4


class Fed:
    """Of one data set in this run: what it is, and in which roles it was told."""

    __slots__ = ("described", "reference", "roles", "split")

    def __init__(self, reference: weakref.ref[Any], described: Description, split: str | None) -> None:
        self.reference = reference
        self.described = described
        self.split = split
        self.roles: set[str] = set()

    def evaluates(self) -> str:
        own = self.described.split
        return self.split or (split_in(own) if own else None) or VALIDATION


class Pass:
    """Batches from one iterator with none from another in between. ``step``: the last step before; None where that is not known."""

    __slots__ = ("fed", "fetched", "iterator", "step")

    def __init__(self, iterator: weakref.ref[Any], fed: Fed, step: int | None) -> None:
        self.iterator = iterator
        self.fed = fed
        self.step = step
        self.fetched = 1


class Feeding:
    def __init__(self, record: Recorder, settle: Callable[[], bool]) -> None:
        """``settle`` counts the steps that have been made; False where that would wait for a device."""
        self._record = record
        self._settle = settle
        self._generation = -1
        self._fed: dict[int, Fed] = {}
        self._described = 0
        #: By id of the iterator.
        self._iterators: dict[int, tuple[weakref.ref[Any], Fed]] = {}
        self._pass: Pass | None = None

    def install(self, patch: Patcher) -> None:
        for dataset, iterator in (
            (tensorflow.data.Dataset, OwnedIterator),
            (DistributedDataset, DistributedIteratorBase),
        ):
            patch.observe(dataset, "__iter__", self.on_iter)
            patch.tap(iterator, "__next__", self.before_next, None)

    def on_iter(self, call: Call) -> Observation:
        yield
        record = self._record
        if call.error is not None or not tensorflow.executing_eagerly():
            return
        if record.is_suppressed() or record.covers("data"):
            return
        fed = self._of(call.instance, sys._getframe(1))
        if fed is not None:
            place, iterators = id(call.result), self._iterators
            iterators[place] = (weakref.ref(call.result, lambda _: iterators.pop(place, None)), fed)

    def before_next(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """On the way of every batch."""
        under_way = self._pass
        if under_way is None or under_way.iterator() is not args[0]:
            self._switch(args[0])
            return
        under_way.fetched += 1
        if self._generation != self._record.generation:
            self._renew()
        if under_way.step is not None and self._record.step > under_way.step and TRAIN not in under_way.fed.roles:
            self._tell(under_way.fed, TRAIN)

    def finish(self) -> None:
        self._look_back()
        self._pass = None

    # --- private ------------------------------------------------------------------------------------------------------

    def _switch(self, iterator: Any) -> None:
        """Another iterator than before is asked for a batch."""
        reference, fed = self._iterators.get(id(iterator), (None, None))
        if self._pass is None and fed is None:
            return
        self._look_back()
        self._pass = None
        if fed is not None and reference is not None and reference() is iterator and tensorflow.executing_eagerly():
            self._pass = Pass(reference, fed, self._record.step if self._settle() else None)

    def _look_back(self) -> None:
        """The pass is over, or interrupted."""
        self._renew()
        over, record = self._pass, self._record
        if over is None:
            return
        fed = over.fed
        if not self._settle() or over.step is None:
            if fed.split is not None and record.step >= 0:
                self._tell(fed, fed.split)
        elif record.step > over.step:
            self._tell(fed, TRAIN)
        elif record.step >= 0 and over.fetched >= _SEVERAL and not fed.roles and not record.is_step_under_way():
            self._tell(fed, TEST if fed.evaluates() == TEST else VALIDATION)

    def _tell(self, fed: Fed, role: str) -> None:
        self._renew()
        if role not in fed.roles:
            fed.roles.add(role)
            self._record.dataset(fed.described, role=role)

    def _of(self, dataset: Any, frame: FrameType) -> Fed | None:
        self._renew()
        place, all_fed = id(dataset), self._fed
        known = all_fed.get(place)
        if known is not None and known.reference() is dataset:
            return known
        if self._described == _MOST_DESCRIBED:
            return None
        self._described += 1
        described = self._record.describers.describe(dataset)
        reference = weakref.ref(dataset, lambda _: all_fed.pop(place, None))
        fed = all_fed[place] = Fed(reference, described, _split(dataset, frame))
        return fed

    def _renew(self) -> None:
        """Another run has begun, or the first one: what is known of the data holds, and is told again."""
        if self._generation != self._record.generation:
            self._generation = self._record.generation
            self._described = 0
            for fed in list(self._fed.values()):
                fed.roles.clear()
            if self._pass is not None and self._pass.step is not None:
                self._pass.step = -1


def _split(dataset: Any, frame: FrameType) -> str | None:
    """What the program calls it."""
    program = (outer for outer in outward(frame) if package_of(outer) not in _BETWEEN)
    for outer, _ in zip(program, range(_MOST_FRAMES), strict=False):
        for name, value in variables_in_reach(outer):
            if value is dataset and (split := split_in(name)):
                return split
    return None
