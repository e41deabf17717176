"""The optimizers of a program: which exist, which have stepped, and what the program calls them."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from types import FrameType
from typing import Any

import tensorflow as tf

from looptap.events import Context
from looptap.frames import variables_in_reach
from looptap.places import Place


class Known:
    """An optimizer that has stepped. Compared by identity; holds the optimizer weakly."""

    __slots__ = ("context", "key", "kind", "label", "place", "rate", "reference")

    def __init__(self, optimizer: Any, label: str) -> None:
        self.reference = weakref.ref(optimizer)
        self.key = id(optimizer)
        self.kind = type(optimizer).__name__
        #: The program's name for it; empty when it is the only one at hand.
        self.label = label
        self.context: Context | None = {"optimizer": label} if label else None
        #: Its learning rate, as it was recorded last in this run.
        self.rate: float | None = None
        self.place: Place = ()


class Optimizers:
    def __init__(self) -> None:
        #: Whose instances are optimizers.
        self.kinds: tuple[type, ...] = ()
        self._alive: dict[int, weakref.ref[Any]] = {}
        self._known: dict[int, Known] = {}
        #: Of this run.
        self._met: set[Known] = set()
        self._looked_around = False
        #: Grows with every optimizer that comes up: what was found out before may be different now.
        self.count = 0

    def restart(self) -> None:
        """A new run: everybody is to be met again."""
        self._met.clear()

    def exists(self, optimizer: Any) -> None:
        """This one has been made, or has stepped."""
        key = id(optimizer)
        known, alive = self._known, self._alive

        def forget(_: Any) -> None:
            alive.pop(key, None)
            known.pop(key, None)

        if key not in alive:
            self.count += 1
            known.pop(key, None)
            alive[key] = weakref.ref(optimizer, forget)

    def any(self) -> bool:
        return bool(self._alive)

    def known(self, optimizer: Any) -> Known | None:
        """None if it has not stepped yet."""
        return self._known.get(id(optimizer))

    def meet(self, optimizer: Any, frames: Sequence[FrameType]) -> Known:
        """This one steps for the first time, where these are the program's frames."""
        self.exists(optimizer)
        self.count += 1
        found = self._known[id(optimizer)] = Known(optimizer, self._label(optimizer, frames))
        return found

    def meets(self, known: Known) -> bool:
        """Whether this is its first step in this run."""
        if known in self._met:
            return False
        self._met.add(known)
        known.rate = None
        return True

    def train(self, sources: frozenset[int]) -> bool:
        """Whether a living optimizer has any of these variables, by their ids, or may come to have them: one that has not stepped
        yet has none, and some never tell."""
        self._look_around()
        living = [optimizer for reference in list(self._alive.values()) if (optimizer := reference()) is not None]
        return any(self._may_train(optimizer, sources) for optimizer in living)

    def _may_train(self, optimizer: Any, sources: frozenset[int]) -> bool:
        variables = _variables(optimizer)
        if variables is not None:
            return not sources.isdisjoint(map(id, variables))
        return self._known.get(id(optimizer)) in self._met or _is_new(optimizer)

    def _look_around(self) -> None:
        """Find those that were made before us: once, at about 0.1 s."""
        if self._looked_around or not self.kinds:
            return
        self._looked_around = True
        for thing in gc.get_objects():
            # By type: isinstance() asks the object, and a lazy one would wake up.
            if issubclass(type(thing), self.kinds):
                self.exists(thing)

    def _label(self, optimizer: Any, frames: Sequence[FrameType]) -> str:
        names: dict[int, list[str]] = {id(optimizer): []}
        inner: set[int] = set()
        for frame in frames:
            for name, value in variables_in_reach(frame):
                if issubclass(type(value), self.kinds) and not name.startswith("_"):
                    names.setdefault(id(value), []).append(name)
                    inner.update(map(id, inside(value)))
        if len(names.keys() - inner) < 2:
            return ""
        # Two functions may call theirs the same.
        taken = {known.label for known in self._known.values()}
        return next((name for name in names[id(optimizer)] if name not in taken), type(optimizer).__name__)


def inside(optimizer: Any) -> list[Any]:
    """The optimizers that this one hands its gradients on to."""
    inner = getattr(optimizer, "inner_optimizer", None)
    return [*([] if inner is None else [inner]), *(getattr(optimizer, "_inner_optimizers", None) or ())]


def _variables(optimizer: Any) -> Any:
    """What it trains, as far as it tells."""
    return getattr(optimizer, "_trainable_variables", None) if getattr(optimizer, "built", False) else None


def _is_new(optimizer: Any) -> bool:
    """Whether it has not stepped yet."""
    iterations = getattr(optimizer, "iterations", None)
    with tf.init_scope():
        return iterations is not None and int(tf.convert_to_tensor(iterations)) == 0
