"""Learning rates of ``train_on_batch``: read before the call, when the device has nothing to do for this model.

Keras has waited for the values of the call before. Schedules are left out: to ask one takes longer than many a step.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from looptap.events import Context
from looptap_integrations.keras.optimizers import optimizers_of


class RatesBetween:
    """Of one model, which it does not hold."""

    def __init__(self) -> None:
        self._compiled: Any = None
        self._variables: list[tuple[str, Any]] = []
        #: The run that was told, the context that its first one came with, and what was recorded last by optimizer.
        self._generation = -1
        self._context: Context = {}
        self._last: dict[str, float] = {}

    def now(self, model: Any) -> dict[str, float]:
        """By the name of the optimizer; those that are numbers in the memory of the host."""
        compiled = getattr(model, "optimizer", None)
        if compiled is not self._compiled:
            self._compiled, self._variables = compiled, list(_variables(model))
        return {label: float(value) for label, variable in self._variables if _is_here(value := _value(variable))}

    def changed(self, rates: dict[str, float], context: Context, generation: int) -> Iterator[tuple[Context, float]]:
        """Those that were not recorded last, each with the context of its series. ``context``: that of the model, if it is told
        now for the first time in this run; it stays the same."""
        if generation != self._generation:
            self._generation, self._context = generation, context
            self._last.clear()
        for label, rate in rates.items():
            if self._last.get(label) != rate:
                self._last[label] = rate
                yield self._context if label == "optimizer" else {**self._context, "optimizer": label}, rate


def _variables(model: Any) -> Iterator[tuple[str, Any]]:
    for label, outer in optimizers_of(model):
        given = getattr(getattr(outer, "inner_optimizer", None) or outer, "_learning_rate", None)
        if given is not None and not callable(given):
            yield label, given


def _value(variable: Any) -> Any:
    """What Keras 3 keeps in its variable; the variable itself of TensorFlow, whose ``value`` is a method."""
    value = getattr(variable, "value", variable)
    return variable if callable(value) else value


def _is_here(value: Any) -> bool:
    if hasattr(value, "is_deleted"):  # JAX, which gives the places of arrays away
        return {device.platform for device in value.devices()} == {"cpu"} and not value.is_deleted()
    return "cpu" in str(getattr(value, "device", "cpu")).lower()
