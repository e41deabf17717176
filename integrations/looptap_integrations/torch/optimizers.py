"""The optimizers of a program: which exist, which have stepped, and what the program calls them."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim import Optimizer

from looptap.events import Context
from looptap.frames import variables_in_reach
from looptap.places import Place, place_of
from looptap_integrations.torch.learning_rates import LearningRates

NEVER = object()


class Known:
    """An optimizer that has stepped in this run. Compared by identity; holds the optimizer weakly."""

    __slots__ = ("context", "counts_evaluations", "held_rates", "label", "only_rate", "place", "rates", "reference")

    def __init__(self, optimizer: Optimizer, label: str) -> None:
        self.reference = weakref.ref(optimizer)
        #: The program's name for it; empty when it is the only one at hand.
        self.label = label
        self.context: Context | None = {"optimizer": label} if label else None
        self.rates = LearningRates(self.context or {})
        self.counts_evaluations = False
        #: Where in the program it has stepped, as far as anybody had to look.
        self.place: Place = ()
        #: The rate of an optimizer with one group, as the very object that was there last: the same object is the same rate,
        #: unless it is a tensor, which is never put here.
        self.only_rate: object = NEVER
        #: Of a compiled step: what was found when the step before it was written; None before the first.
        self.held_rates: list[tuple[Context, Any]] | None = None

    def late_rates(self, groups: list[dict[str, Any]], read: Callable[[Any], Any]) -> list[tuple[Context, Any]]:
        """The changed rates of a step that is written when a schedule has perhaps gone on since: those which were there before it.
        ``read`` gives a tensor's value. Of the first step they are unknown where there is a schedule."""
        now = [(context, read(rate)) for context, rate in self.rates.changed(groups) or ()]
        told, self.held_rates = self.held_rates, now
        if told is not None:
            return told
        if any("initial_lr" in group for group in groups):
            return []
        self.held_rates = []
        return now


class Optimizers:
    def __init__(self) -> None:
        self._alive: dict[int, weakref.ref[Any]] = {}
        self.known: dict[int, Known] = {}
        self._looked_around = False
        #: Grows with every optimizer that comes up: what was found out before may be different now.
        self.count = 0

    def exists(self, optimizer: Optimizer) -> None:
        """This one has been made, or has stepped."""
        key = id(optimizer)
        known, alive = self.known, self._alive

        def forget(_: Any) -> None:
            alive.pop(key, None)
            known.pop(key, None)

        self.count += 1
        known.pop(key, None)
        alive[key] = weakref.ref(optimizer, forget)

    def any(self) -> bool:
        return bool(self._alive)

    def train(self, losses: Iterable[torch.Tensor]) -> bool:
        """Whether a living optimizer holds any parameter that these losses, already backwarded, have a gradient for.

        Where the graph has functions written in Python (checkpointing is one), parameters may hide in them: then any
        optimizer will do.
        """
        self._look_around()
        # One that does not call the __init__ of its base class has a step without hooks, of which we never hear.
        held = [
            optimizer
            for reference in list(self._alive.values())
            if (optimizer := reference()) is not None and getattr(type(optimizer).step, "hooked", False)
        ]
        if not held:
            return False
        leaves, is_complete = _leaves(losses)
        trained = [tensor for optimizer in held for group in optimizer.param_groups for tensor in group["params"]]
        # fully_shard computes with other tensors than the DTensors that the optimizer has.
        if not is_complete or any(hasattr(type(tensor), "to_local") for tensor in trained):
            return True
        return any(id(tensor) in leaves for tensor in trained)

    def _look_around(self) -> None:
        """Find those that were made before us: once, at about 0.1 s."""
        if self._looked_around:
            return
        self._looked_around = True
        for thing in gc.get_objects():
            # By type: isinstance() asks the object, and a lazy one would wake up.
            if issubclass(type(thing), Optimizer) and id(thing) not in self._alive and hasattr(thing, "param_groups"):
                self.exists(thing)

    def restart(self) -> None:
        """A new run: everybody is to be met again."""
        self.known.clear()

    def meet(self, optimizer: Optimizer, frames: list[Any]) -> Known:
        """At its first step of a run: find the program's name for it, if it needs one."""
        if id(optimizer) not in self._alive:
            self.exists(optimizer)
        # By their groups: what a framework wraps around an optimizer (Accelerate, Lightning) is an optimizer too, but no other one.
        names: dict[int, str] = {}
        for frame in frames:
            for name, value in variables_in_reach(frame):
                if issubclass(type(value), Optimizer) and not name.startswith("_") and hasattr(value, "param_groups"):
                    names.setdefault(id(value.param_groups), name)
        label = ""
        if len(names.keys() | {id(optimizer.param_groups)}) > 1:
            label = names.get(id(optimizer.param_groups)) or type(optimizer).__name__
        known = self.known[id(optimizer)] = Known(optimizer, label)
        known.place = place_of(frames)
        return known


def _leaves(losses: Iterable[torch.Tensor]) -> tuple[set[int], bool]:
    """Ids of the tensors that these losses have gradients for, and whether these are all."""
    found: set[int] = set()
    is_complete = True
    waiting: list[Any] = [loss.grad_fn for loss in losses]
    # Holding the nodes keeps their ids unique.
    seen: dict[int, Any] = {}
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in seen:
            continue
        seen[id(node)] = node
        if isinstance(node, torch.autograd.function.BackwardCFunction):
            is_complete = False
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            found.add(id(leaf))
            # FSDP of the first version computes with one flat parameter; the optimizer may have the original ones.
            found.update(map(id, getattr(leaf, "_params", None) or ()))
        waiting.extend(edge[0] for edge in node.next_functions)
    return found, is_complete
