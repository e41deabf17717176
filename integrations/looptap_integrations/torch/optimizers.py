"""The optimizers of a program: which exist, which have stepped, and what the program calls them."""

from __future__ import annotations

import gc
import weakref
from typing import Any

from torch.optim import Optimizer

from looptap.events import Context
from looptap.frames import variables_in_reach
from looptap_integrations.torch.learning_rates import LearningRates


class Known:
    """An optimizer that has stepped in this run. Compared by identity; holds the optimizer weakly."""

    __slots__ = ("context", "counts_evaluations", "label", "rates", "reference")

    def __init__(self, optimizer: Optimizer, label: str) -> None:
        self.reference = weakref.ref(optimizer)
        #: The program's name for it; empty when it is the only one at hand.
        self.label = label
        self.context: Context | None = {"optimizer": label} if label else None
        self.rates = LearningRates(self.context or {})
        self.counts_evaluations = False


class Optimizers:
    def __init__(self) -> None:
        self._alive: dict[int, weakref.ref[Any]] = {}
        self.known: dict[int, Known] = {}
        self._looked_around = False

    def exists(self, optimizer: Optimizer) -> None:
        """This one has been made, or has stepped."""
        key = id(optimizer)
        known, alive = self.known, self._alive

        def forget(_: Any) -> None:
            alive.pop(key, None)
            known.pop(key, None)

        known.pop(key, None)
        alive[key] = weakref.ref(optimizer, forget)

    def any(self) -> bool:
        return bool(self._alive)

    def look_around(self) -> bool:
        """Whether there is any, those included that were made before us: looks for them once, at about 0.1 s."""
        if not self._alive and not self._looked_around:
            self._looked_around = True
            for thing in gc.get_objects():
                # By type: isinstance() asks the object, and a lazy one would wake up.
                if issubclass(type(thing), Optimizer):
                    self.exists(thing)
        return bool(self._alive)

    def restart(self) -> None:
        """A new run: everybody is to be met again."""
        self.known.clear()

    def meet(self, optimizer: Optimizer, frames: list[Any]) -> Known:
        """At its first step of a run: find the program's name for it, if it needs one."""
        if id(optimizer) not in self._alive:
            self.exists(optimizer)
        names: dict[int, str] = {}
        for frame in frames:
            for name, value in variables_in_reach(frame):
                if issubclass(type(value), Optimizer) and not name.startswith("_"):
                    names.setdefault(id(value), name)
        label = ""
        if len(names.keys() | {id(optimizer)}) > 1:
            label = names.get(id(optimizer)) or type(optimizer).__name__
        known = self.known[id(optimizer)] = Known(optimizer, label)
        return known
