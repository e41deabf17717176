"""Keeps of an answer what can be counted later, at the price of one small copy.

Called in the thread that answers, so it computes nothing: arrays that may change are copied, a few rows of large ones; what cannot
change is only referred to. Nothing here waits for a device: an answer that lies on one is not looked at, and counted as such.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

#: Of each answer so many rows are looked at, and so many numbers of them; the first ones.
MOST_ROWS = 64
MOST_NUMBERS = 16_384
_MOST_KEYS = 16
_PLAIN = (str, bytes, int, float, bool, type(None))


class Skipped:
    """Stands for what was not looked at, and says why in one word or two."""

    __slots__ = ("reason", "rows")

    def __init__(self, reason: str, rows: int = 1) -> None:
        self.reason = reason
        self.rows = rows


class Part:
    """The first rows of a longer answer."""

    __slots__ = ("rows", "value")

    def __init__(self, value: Any, rows: int) -> None:
        self.value = value
        #: Of all of it.
        self.rows = rows


def keep(answer: Any) -> Any:
    """Never raises on account of the answer, and never calls code of the program's own classes, but for what arrays have."""
    kind = type(answer)
    if kind in _PLAIN:
        return answer
    if kind in (list, tuple):
        return _of_list(answer)
    root = kind.__module__.partition(".")[0]
    if root == "numpy":
        return _of_array(answer, "copy")
    if root == "torch":
        if not hasattr(answer, "untyped_storage"):
            return Skipped("unknown kind")
        if answer.device.type != "cpu":
            return Skipped("on a device", _rows(answer))
        return _of_array(answer.detach(), "clone")
    if root in ("tensorflow", "jaxlib", "jax"):
        return answer  # these never change
    fields = getattr(kind, "__dataclass_fields__", None)
    if fields is not None:
        return _of_fields(answer, fields)
    if issubclass(kind, dict):
        return {key: keep(value) for key, value in islice(dict.items(answer), _MOST_KEYS)}
    return Skipped("unknown kind")


def shape_of(value: Any) -> str | None:
    """``float32[*, 3, 224]``: type and sizes without the rows, of an array; None of anything else."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is None or dtype is None:
        return None
    sizes = ", ".join(["*", *(str(size) for size in list(shape)[1:])]) if len(shape) else ""
    return f"{getattr(dtype, 'name', None) or str(dtype).rpartition('.')[2]}[{sizes}]"


def rows_of(value: Any) -> int | None:
    """How many rows are asked for at once; None where that cannot be told."""
    shape = getattr(value, "shape", None)
    if shape is not None:
        return int(shape[0]) if len(shape) else 1
    return len(value) if type(value) in (list, tuple) else None


# --- private ----------------------------------------------------------------------------------------------------------


def _rows(array: Any) -> int:
    return int(array.shape[0]) if len(array.shape) else 1


def _of_array(array: Any, copy: str) -> Any:
    shape = array.shape
    if not len(shape):
        return getattr(array, copy)()
    rows, numbers = int(shape[0]), 1
    for size in shape[1:]:
        numbers *= int(size)
    if numbers > MOST_NUMBERS:
        return Skipped("too large", rows)
    most = min(rows, MOST_ROWS, MOST_NUMBERS // max(1, numbers))
    if most == rows:
        return getattr(array, copy)()
    return Part(getattr(array[:most], copy)(), rows)


def _of_list(answer: Any) -> Any:
    if len(answer) <= MOST_ROWS:
        return [keep(item) for item in answer]
    return Part([keep(item) for item in answer[:MOST_ROWS]], len(answer))


def _of_fields(answer: Any, fields: Iterable[str]) -> Any:
    """Of an object with named outputs, as those of Transformers are."""
    values = object.__getattribute__(answer, "__dict__")
    return {name: keep(values[name]) for name in list(fields)[:_MOST_KEYS] if values.get(name) is not None}
