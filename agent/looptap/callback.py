"""A callback for a framework that calls such: a shell without state, which hands every event to an integration while that listens.

It is a subclass of the framework's own class, since frameworks ask. It pickles and deep-copies as a new shell (some strategies send
their trainer to other processes), has nothing to say in checkpoints, and does nothing at all once ``looptap.stop()`` was called::

    kind = callback_kind("lightning.pytorch.callbacks:Callback", ("on_fit_start", "teardown"))
    patch.hook(kind.listen("teardown"), self.on_teardown)      # called with what the framework passes, and a dict of the rest
    trainer.callbacks.append(kind.new())
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterable
from typing import Any

Listener = Callable[..., Any]


class Listening:
    """The handle of one listener."""

    def __init__(self, listeners: dict[str, Listener], event: str, listener: Listener) -> None:
        self._listeners = listeners
        self._event = event
        listeners[event] = listener

    def remove(self) -> None:
        self._listeners.pop(self._event, None)


class CallbackKind:
    def __init__(self, base: str) -> None:
        """``base`` is ``module:Class``, a class that can be made without arguments."""
        self.base = base
        self._listeners: dict[str, Listener] = {}
        self._class: type[Any] | None = None
        self.events: set[str] = set()

    @property
    def has_listeners(self) -> bool:
        return bool(self._listeners)

    def listen(self, event: str) -> Callable[[Listener], Listening]:
        """Registers a listener for :meth:`looptap.patching.Patcher.hook`: one for an event."""
        return functools.partial(Listening, self._listeners, event)

    def new(self) -> Any:
        if self._class is None:
            module, _, name = self.base.partition(":")
            outer = getattr(importlib.import_module(module), name)
            base = self.base
            own = {"__module__": __name__, "__reduce__": lambda self: (_another, (base,))}
            self._class = type("LooptapCallback", (outer,), own)
        for event in self.events - vars(self._class).keys():
            setattr(self._class, event, _method(event, self._listeners))
        return self._class()

    def is_kind_of(self, callback: Any) -> bool:
        return type(callback) is self._class


_KINDS: dict[str, CallbackKind] = {}


def callback_kind(base: str, events: Iterable[str] = ()) -> CallbackKind:
    """The one kind of callback that is made of this class of a framework; ``events`` are the methods that it is called by."""
    kind = _KINDS.setdefault(base, CallbackKind(base))
    kind.events.update(events)
    return kind


def _another(base: str) -> Any:
    return callback_kind(base).new()


def _method(event: str, listeners: dict[str, Listener]) -> Callable[..., None]:
    def method(self: Any, *args: Any, **kwargs: Any) -> None:
        listener = listeners.get(event)
        if listener is not None:
            listener(*args, kwargs)

    method.__name__ = event
    return method
