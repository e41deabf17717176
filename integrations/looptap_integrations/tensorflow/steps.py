"""Where optimizers step: those of Keras 3 on this backend, of tf-keras (new and legacy), and of TensorFlow 1.

None of them is imported here. Their modules are watched, and patched once the program has imported them.
"""

from __future__ import annotations

import math
import sys
import threading
from types import ModuleType
from typing import Any, NamedTuple

import tensorflow as tf

from looptap.patching import Patcher, is_watched
from looptap.places import place_of
from looptap_integrations.tensorflow.loop import Loop, Rate, Step
from looptap_integrations.tensorflow.optimizers import inside
from looptap_integrations.tensorflow.replicas import replica
from looptap_integrations.tensorflow.sites import Sites
from looptap_integrations.tensorflow.tapes import Tapes

#: Module and classes, and the method by which they step.
_MODULES = {
    "keras.src.optimizers.optimizer": "apply",
    "keras.src.optimizers.loss_scale_optimizer": "apply",
    "keras.src.optimizers.multi_optimizer": "apply",
    "tf_keras.src.optimizers.optimizer": "apply_gradients",
    "tf_keras.src.optimizers.legacy.optimizer_v2": "apply_gradients",
    "tf_keras.src.mixed_precision.loss_scale_optimizer": "apply_gradients",
}
#: Keyword arguments by which tf-keras leaves the adding up of gradients to the program, and what they are then.
_NO_SUM = {"skip_gradients_aggregation": True, "experimental_aggregate_gradients": False}


class Applied(NamedTuple):
    """An optimizer is about to step."""

    optimizer: Any
    is_sum: bool
    #: Where it was called.
    graph: Any


class Steps:
    def __init__(self, loop: Loop, sites: Sites, tapes: Tapes) -> None:
        self._loop = loop
        self._sites = sites
        self._tapes = tapes
        self._here = threading.local()
        #: Ids of optimizers that one which is stepping has inside, on whatever thread.
        self._inner: set[int] = set()
        #: By id of the optimizer: the learning rate of the step under way.
        self._rates: dict[int, Any] = {}

    def install(self, patch: Patcher) -> None:
        self._patch = patch
        for name in _MODULES:
            patch.when_imported(name, self.on_module)
        self._watch(tf.compat.v1.train.Optimizer, "apply_gradients")

    def on_module(self, module: ModuleType) -> None:
        """A module with optimizers has been imported."""
        method = _MODULES[module.__name__]
        own = [kind for kind in vars(module).values() if isinstance(kind, type) and kind.__module__ == module.__name__]
        for kind in own:
            if method == "apply" and not any("backend.tensorflow" in base.__module__ for base in kind.__mro__):
                continue  # Keras on another backend
            self._watch(kind, method)
            for scale in ("scale_loss", "get_scaled_loss"):
                if scale in vars(kind):
                    self._patch.observe(kind, scale, self._tapes.on_scale)

    def _watch(self, kind: type, method: str) -> None:
        """This class, and those of its bases that have such a method."""
        steppers = [base for base in kind.__mro__ if method in vars(base)]
        if not steppers:
            return
        self._loop.optimizers.kinds = (*self._loop.optimizers.kinds, kind)
        for base in steppers:
            self._tap(base, method, self.before, self.after, self.failed)
        if "__init__" in vars(steppers[-1]):
            self._tap(steppers[-1], "__init__", None, self.made)
        for base in kind.__mro__:
            if "_backend_update_step" in vars(base) and "tensorflow" in base.__module__:
                self._tap(base, "_backend_update_step", self.before_update, _nothing)

    def _tap(self, owner: type, name: str, *watchers: Any) -> None:
        """Once: several classes have it from one base."""
        if not is_watched(vars(owner)[name]):
            self._patch.tap(owner, name, *watchers)

    def made(self, args: tuple[Any, ...]) -> None:
        self._loop.optimizers.exists(args[0])

    def before(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Applied | None:
        here, optimizer = self._here, args[0]
        record = self._loop.record
        if (
            getattr(here, "applied", None)
            or id(optimizer) in self._inner
            or (record.unusual and (record.is_suppressed() or record.covers("loss")))
        ):
            return None
        self._inner.update(map(id, inside(optimizer)))
        is_sum = not any(kwargs.get(name) is value for name, value in _NO_SUM.items())
        applied = here.applied = Applied(optimizer, is_sum, tf.compat.v1.get_default_graph())
        return applied

    def after(self, applied: Applied) -> None:
        self.failed(applied)
        optimizer = applied.optimizer
        rate = self._rates.pop(id(optimizer), None)
        if replica() not in (None, 0):
            return  # of the replicas that step together, the first tells
        self._tapes.stepped()
        loop, frame = self._loop, sys._getframe(1)
        loop.begins(self._sites, frame)
        known = loop.optimizers.known(optimizer)
        place = known.place if known is not None else ()
        if known is None or loop.needs_place(known):
            frames = self._sites.program_frames(frame)
            known, place = known or loop.optimizers.meet(optimizer, frames), place_of(frames)
        is_sum = applied.is_sum and tf.distribute.get_replica_context() is not None
        loop.happened(Step(known, place, is_sum), _rate(optimizer, rate))

    def failed(self, applied: Applied) -> None:
        self._here.applied = None
        self._inner.difference_update(map(id, inside(applied.optimizer)))

    def before_update(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Keras hands the learning rate of this step to what updates the variables; in a branch of the graph, where it does not do
        so at every step."""
        applied: Applied | None = getattr(self._here, "applied", None)
        rate = args[3] if len(args) > 3 else kwargs.get("learning_rate")
        if applied is None or rate is None:
            return
        if tf.compat.v1.get_default_graph() is applied.graph:
            self._rates[id(applied.optimizer)] = rate
        elif replica() in (None, 0):
            self._loop.happened(Rate(id(applied.optimizer)), tf.convert_to_tensor(rate))


def _nothing(token: Any) -> None:
    """Of this call, only its beginning is of interest."""


def _rate(optimizer: Any, given: Any) -> Any:
    """The learning rate of the step that has just been made: a tensor or a number, NaN where there is none to be had."""
    if given is None:
        # Of tf-keras what a schedule gave for this step is kept in a variable, as is a rate without any.
        holder = next(iter(inside(optimizer)), optimizer)
        held = [getattr(holder, name, None) for name in ("_current_learning_rate", "_learning_rate", "_lr")]
        hyper = getattr(holder, "_hyper", None)
        if isinstance(hyper, dict):
            held.append(hyper.get("learning_rate"))
        given = next((rate for rate in held if isinstance(rate, (float, int)) or hasattr(rate, "assign")), math.nan)
    return tf.convert_to_tensor(given) if hasattr(given, "assign") else given
