"""Calls of a model that are kept as examples, where the program has asked for a share of them.

A number is drawn for each call (:mod:`looptap.sketches.sampling`). Below the share, what the model is asked is copied before it is
asked, and what it answers afterwards, in the thread that asks: a few values of each. Secrets are taken out where requests are
counted, of those calls only that stay in their window.
"""

from __future__ import annotations

import os
import random
import time
from bisect import insort
from collections.abc import Mapping
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

import msgspec

from looptap.events import Example
from looptap.guard import Guard
from looptap.plain import clean
from looptap.serving.values import Cut, Pairs, copied, copied_pairs, told
from looptap.session import SESSION
from looptap.sketches.sampling import EXAMPLE_BYTES

if TYPE_CHECKING:
    from looptap.serving.model import Model

#: Of one call, and of each the most characters.
MOST_IDS = 4
_ID_CHARACTERS = 384
_ERROR_CHARACTERS = 200
#: The first that is short enough counts; the last always is.
_CUTS = (Cut(2_000, 50), Cut(1_000, 20), Cut(400, 10), Cut(100, 5), Cut(16, 1))
#: Where a class has the function that is called in the end: of objects, modules of PyTorch, layers of Keras.
_CALLED = ("__call__", "forward", "call")

#: Not that of the program, whose numbers would be others then.
_CHANCE = random.Random()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_CHANCE.seed)

_guard = Guard("inputs")


class Kept:
    """One call, as far as it is kept."""

    __slots__ = ("_answer", "_asked", "_ids", "_time_ns", "_told", "draw", "error")

    def __init__(self, draw: float, asked: Pairs) -> None:
        self.draw = draw
        #: The class of what it has raised.
        self.error: str | None = None
        self._time_ns = time.time_ns()
        self._asked = asked
        self._answer: Any = None
        self._ids: list[str] = []
        #: And how many ids it has.
        self._told: tuple[Example, int] | None = None

    def answered(self, answer: Any) -> None:
        with _guard:
            self._answer = copied(answer)

    def has_id(self, id: str, predicted: object) -> None:
        """The program has asked for the id of a prediction in it, which says by itself what was predicted."""
        is_open = not isinstance(predicted, str) or SESSION.recorder.redactor.text(predicted) == predicted
        if is_open and len(id) <= _ID_CHARACTERS and len(self._ids) < MOST_IDS and id not in self._ids:
            self._ids.append(id)

    def as_example(self) -> Example:
        """In :data:`EXAMPLE_BYTES` of JSON at most, without secrets."""
        ids = tuple(self._ids)
        if self._told is None or self._told[1] != len(ids):
            self._told = self._cut(ids), len(ids)
        return self._told[0]

    def _cut(self, ids: tuple[str, ...]) -> Example:
        error = None if self.error is None else clean(self.error)[:_ERROR_CHARACTERS]
        redactor = SESSION.recorder.redactor
        for cut in _CUTS:
            asked, answer = told(self._asked, cut, redactor), told(self._answer, cut, redactor)
            example = Example(self.draw, self._time_ns, asked, answer, error, ids)
            if len(msgspec.json.encode(example)) <= EXAMPLE_BYTES:
                break
        return example


class Examples:
    """Those of one window: at most so many, each call with the same chance."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: list[Kept] = []

    def add(self, kept: Kept) -> None:
        insort(self._kept, kept, key=_draw)
        del self._kept[self._most :]

    def told(self) -> tuple[Example, ...]:
        return tuple(kept.as_example() for kept in self._kept)


def drawn(model: Model, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Kept | None:
    """What is kept of a call that is about to be made; None of one that is not, as most are."""
    draw = _CHANCE.random()
    if draw >= model.inputs or _guard.closed:
        return None
    with _guard:
        names = _parameters(function)
        places = (names[place] if place < len(names) else str(place) for place in range(len(args)))
        return Kept(draw, copied_pairs([*zip(places, args, strict=False), *kwargs.items()]))
    return None


# --- private ----------------------------------------------------------------------------------------------------------


def _draw(kept: Kept) -> float:
    return kept.draw


def _parameters(function: Any) -> tuple[str, ...]:
    """Names by place, as far as they can be told without asking the object."""
    first = 0
    if type(function) is MethodType:
        function, first = function.__func__, 1
    elif type(function) is not FunctionType:
        function, first = _called(type(function)), 1
    while type(function) is FunctionType and "__wrapped__" in function.__dict__:
        function = function.__dict__["__wrapped__"]
    if type(function) is not FunctionType:
        return ()
    code = function.__code__
    return code.co_varnames[first : code.co_argcount]


def _called(kind: type) -> Any:
    """The first of these that takes more than the object itself by name."""
    for name in _CALLED:
        found = next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), None)
        if type(found) is FunctionType and found.__code__.co_argcount > 1:
            return found
    return None
