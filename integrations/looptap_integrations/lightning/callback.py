"""The callback that Lightning is given: a shell without state, which hands every event to the integration while one is installed.

It pickles and deep-copies as a new shell (strategies that spawn send the trainer to other processes), leaves nothing in checkpoints,
and does nothing at all once ``looptap.stop()`` was called.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

#: The events that we listen to.
EVENTS = (
    "on_sanity_check_start",
    "on_sanity_check_end",
    "on_train_start",
    "on_train_epoch_start",
    "on_train_batch_start",
    "on_before_backward",
    "on_train_batch_end",
    "on_train_epoch_end",
    "on_train_end",
    "on_validation_start",
    "on_test_start",
    "on_predict_start",
    "on_exception",
    "teardown",
)

#: By package: who listens, guarded, by event. Empty while the integration is not installed.
LISTENERS: dict[str, dict[str, Callable[..., Any]]] = {}
_CLASSES: dict[str, type[Any]] = {}


class Listening:
    """What ``Patcher.hook`` needs: an event of one package that has a listener until it is removed."""

    def __init__(self, package: str, event: str, listener: Callable[..., Any]) -> None:
        self._listeners = LISTENERS.setdefault(package, {})
        self._event = event
        self._listeners[event] = listener

    def remove(self) -> None:
        self._listeners.pop(self._event, None)


def callbacks_of(package: str) -> list[Any]:
    """One callback while the integration of this package is installed, otherwise none."""
    return [new_callback(package)] if LISTENERS.get(package) else []


def new_callback(package: str) -> Any:
    kind = _CLASSES.get(package)
    if kind is None:
        base = importlib.import_module(f"{package}.callbacks").Callback
        listeners = LISTENERS.setdefault(package, {})
        methods = {event: _method(event, listeners) for event in EVENTS}
        reduce = {"__reduce__": lambda self: (new_callback, (package,))}
        kind = _CLASSES[package] = type("LooptapCallback", (base,), {"__module__": __name__, **methods, **reduce})
    return kind()


def is_ours(callback: Any) -> bool:
    return type(callback) in _CLASSES.values()


def _method(event: str, listeners: dict[str, Callable[..., Any]]) -> Callable[..., None]:
    def method(self: Any, trainer: Any, module: Any, *args: Any, **kwargs: Any) -> None:
        listener = listeners.get(event)
        if listener is not None:
            listener(trainer, module, *args, *kwargs.values())

    method.__name__ = event
    return method
