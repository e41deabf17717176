"""What a filter is once it has been read, and the one error that reading it can raise."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

#: A number (float), a text, true or false; for times and durations whole nanoseconds.
Value: TypeAlias = bool | int | float | str
Operator: TypeAlias = Literal["=", "!=", "<", "<=", ">", ">=", "~"]
Source: TypeAlias = Literal["run", "params", "tags", "metrics"]


class FilterError(ValueError):
    """What is wrong with a filter, an order or a cursor, in one line.

    ``position`` is the offset in characters, from 0, into ``text``, which came as what ``field`` says: ``filter``, ``order``
    (the term of it that is wrong) or ``cursor``.
    """

    text = ""

    def __init__(self, message: str, position: int, field: str = "filter") -> None:
        # Parts of it may be quoted from the text; it is one line all the same.
        self.message = "".join(character if character.isprintable() else " " for character in message)
        super().__init__(self.message)
        self.position = position
        self.field = field


class Field(msgspec.Struct, frozen=True):
    """Where to look. ``key`` names a column of the run, or the param, tag or metric.

    ``stat`` and ``context`` are for metrics. A context selects the series that have all of these items; an empty one, the
    series without context; None, all series of the key.
    """

    source: Source
    key: str
    stat: str = "last"
    context: tuple[tuple[str, str], ...] | None = None


class Compare(msgspec.Struct, frozen=True):
    """True when the run has a value there, of the kind of ``values``, for which the comparison holds.

    ``values`` are of one kind. Several only with ``=`` (equal to any of them) and ``!=`` (to none).
    """

    field: Field
    operator: Operator
    values: tuple[Value, ...]


class Exists(msgspec.Struct, frozen=True):
    field: Field


class Not(msgspec.Struct, frozen=True):
    item: Tree


class All(msgspec.Struct, frozen=True):
    items: tuple[Tree, ...]


class Any(msgspec.Struct, frozen=True):
    items: tuple[Tree, ...]


Tree: TypeAlias = Compare | Exists | Not | All | Any
