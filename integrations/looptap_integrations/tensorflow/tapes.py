"""``GradientTape.gradient``: its target is a loss, where it is differentiated by variables."""

from __future__ import annotations

import sys
import weakref
from typing import Any, NamedTuple

import tensorflow as tf

from looptap.patching import Call, Observation, Patcher
from looptap_integrations.tensorflow.loop import Loop, Loss
from looptap_integrations.tensorflow.replicas import replica
from looptap_integrations.tensorflow.sites import Sites

_NO_NUMBER = (
    "a loss of several elements is left out: {name} has the shape {shape}. Gradients of it are those of its sum"
)


class Asked(NamedTuple):
    target: Any
    sources: Any


class Tapes:
    def __init__(self, loop: Loop, sites: Sites) -> None:
        self._loop = loop
        self._sites = sites
        #: The last loss: one tape may be asked twice for it, for the variables of two optimizers.
        self._last: weakref.ref[Any] | None = None
        #: The last scaled loss, and what it was before.
        self._scaled: tuple[weakref.ref[Any], Any] | None = None

    def install(self, patch: Patcher) -> None:
        patch.tap(tf.GradientTape, "gradient", self.before, self.after)

    def before(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Asked | None:
        record = self._loop.record
        if record.unusual and (record.is_suppressed() or record.covers("loss")):
            return None
        target = args[1] if len(args) > 1 else kwargs.get("target")
        sources = args[2] if len(args) > 2 else kwargs.get("sources")
        return Asked(target, sources) if _has_variable(sources) else None

    def after(self, asked: Asked) -> None:
        caller = self._sites.caller(sys._getframe(1))
        if caller is None:
            return
        loop, given = self._loop, asked.target
        for index, target in enumerate([given] if isinstance(given, tf.Tensor) else tf.nest.flatten(given)):
            if not isinstance(target, tf.Tensor) or self._is_told(target):
                continue
            original = self._before_scaling(target)
            site = self._sites.at(caller, index, (original, target))
            if site.known != loop.optimizers.count:
                site.known = loop.optimizers.count
                site.sources = frozenset(map(id, tf.nest.flatten(asked.sources)))
            if original.shape.num_elements() != 1:
                loop.record.note("tensorflow", _NO_NUMBER.format(name=site.name, shape=original.shape))
                continue
            self._last = weakref.ref(target)
            loop.begins(self._sites, caller.frame)
            loop.happened(Loss(site, replica()), original)

    def on_scale(self, call: Call) -> Observation:
        """A loss is scaled up, so that its gradients do not vanish in half precision."""
        yield
        loss = call.args[1] if len(call.args) > 1 else call.kwargs.get("loss")
        if (
            call.error is None
            and isinstance(loss, tf.Tensor)
            and isinstance(call.result, tf.Tensor)
            and loss is not call.result
        ):
            self._scaled = weakref.ref(call.result), loss

    def stepped(self) -> None:
        """An optimizer has: what was scaled for it is not needed any more."""
        self._scaled = None

    def _is_told(self, target: Any) -> bool:
        return self._last is not None and self._last() is target

    def _before_scaling(self, target: Any) -> Any:
        return self._scaled[1] if self._scaled is not None and self._scaled[0]() is target else target


def _has_variable(sources: Any) -> bool:
    first = sources
    while type(first) in (list, tuple) and first:
        first = first[0]
    return hasattr(first, "assign") or any(hasattr(source, "assign") for source in tf.nest.flatten(sources))
