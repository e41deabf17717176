"""Keeps of a question and an answer what can be counted later, at the price of one small copy.

Called in the thread that answers, so it computes nothing: arrays that may change are copied, a few rows of large ones; what cannot
change is only referred to. Nothing here waits for a device: of an answer that lies on one some rows are fetched, which arrive later
(:mod:`looptap.serving.devices`), or it is not looked at, and counted as such.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from looptap.serving.devices import DEVICES

#: Of each answer so many rows are looked at, and so many numbers of them.
MOST_ROWS = 64
MOST_NUMBERS = 16_384
#: Up to so many numbers, a list of them costs less than a copy.
_FEW = 64
_MOST_KEYS = 16


class Skipped:
    """Stands for what was not looked at, and says why in one word or two."""

    __slots__ = ("reason", "rows")

    def __init__(self, reason: str, rows: int = 1) -> None:
        self.reason = reason
        self.rows = rows


class Part:
    """Rows of a longer answer, evenly spread over it."""

    __slots__ = ("rows", "value")

    def __init__(self, value: Any, rows: int) -> None:
        self.value = value
        #: Of all of it.
        self.rows = rows


def keep(answer: Any) -> Any:
    """Never raises on account of the answer, and never calls code of the program's own classes, but for what arrays have."""
    kind = type(answer)
    known = _KEPT_BY.get(kind)
    if known is None:
        known = _how(kind)
        if len(_KEPT_BY) < _MOST_KINDS:
            _KEPT_BY[kind] = known
    return known(answer)


class Named(tuple[tuple[str, Any, Any], ...]):
    """Of a question of several arrays: name, sizes and type of each."""

    __slots__ = ()


def keep_question(asked: Any) -> Any:
    """Sizes and type of an array, or of each of several by name; the length of a list or a table. For :func:`shape_of` and
    :func:`rows_of`."""
    kind = type(asked)
    if kind is list or kind is tuple:
        return len(asked)
    if kind is dict:
        return _named(asked)
    if _is_array(kind):
        return asked.shape, asked.dtype
    return len(asked) if kind.__name__ == "DataFrame" else None


def keep_features(asked: Any, names: tuple[str, ...]) -> Any:
    """Of what a model is asked, the columns or keys of these names; None where it has none. Of tables (``DataFrame``), arrays with
    as many columns as there are names, dicts, and lists of dicts."""
    kind = type(asked)
    if kind is dict:
        found = {name: keep(asked[name]) for name in names if name in asked}
        return found if found or len(asked) != 1 else keep_features(next(iter(asked.values())), names)
    if kind is list and asked and type(asked[0]) is dict:
        return [keep_features(row, names) for row in asked[:MOST_ROWS]]
    if kind.__name__ == "DataFrame":
        return {name: keep(asked[name].to_numpy()) for name in names if name in asked.columns}
    shape = getattr(asked, "shape", None)
    if shape is not None and len(shape) == 2 and int(shape[1]) == len(names):
        return {name: keep(asked[:, place]) for place, name in enumerate(names)}
    return None


def shape_of(asked: Any) -> str | None:
    """Of a question that was kept: ``float32[*, 3, 224]``, type and sizes without the rows; of several arrays
    ``ids int64[*, 128], mask int64[*, 128]``. None of what is no array."""
    if isinstance(asked, Named):
        return ", ".join(f"{name} {_shape(shape, dtype)}" for name, shape, dtype in asked)
    return _shape(*asked) if type(asked) is tuple else None


def rows_of(asked: Any) -> int | None:
    """How many rows were asked for at once, of several arrays in the first; None where that cannot be told."""
    if isinstance(asked, tuple):
        shape = asked[0][1] if isinstance(asked, Named) else asked[0]
        return int(shape[0]) if len(shape) else 1
    return asked if type(asked) is int else None


# --- private ----------------------------------------------------------------------------------------------------------


def _named(asked: dict[Any, Any]) -> Any:
    """As the only array of them, where it is one."""
    arrays = [(name, one) for name, one in islice(asked.items(), _MOST_KEYS) if _is_array(type(one))]
    if len(arrays) == 1:
        return keep_question(arrays[0][1])
    return Named((str(name), one.shape, one.dtype) for name, one in arrays) if arrays else None


def _is_array(kind: type) -> bool:
    known = _ARRAYS.get(kind)
    if known is None:
        known = hasattr(kind, "shape") and hasattr(kind, "dtype") and not is_traced(kind)
        if len(_ARRAYS) < _MOST_KINDS:
            _ARRAYS[kind] = known
    return known


def is_traced(kind: type) -> bool:
    """Whether it stands for a tensor while a graph is made: there are no numbers in it, and sizes may be unknown."""
    return any(base.__name__ in _TRACED for base in kind.__mro__)


def _shape(shape: Any, dtype: Any) -> str:
    sizes = ", ".join(["*", *(str(size) for size in list(shape)[1:])]) if len(shape) else ""
    return f"{getattr(dtype, 'name', None) or str(dtype).rpartition('.')[2]}[{sizes}]"


def _how(kind: type) -> Callable[[Any], Any]:
    root = kind.__module__.partition(".")[0]
    if root == "numpy":
        return _of_numpy
    if root == "torch" and hasattr(kind, "untyped_storage"):
        return _of_torch
    if is_traced(kind):
        return _unknown
    if root in ("tensorflow", "jaxlib", "jax"):
        return _itself  # these never change
    if (fields := getattr(kind, "__dataclass_fields__", None)) is not None:
        return lambda answer: _of_fields(answer, fields)
    return _of_dict if issubclass(kind, dict) else _unknown


def _itself(answer: Any) -> Any:
    return answer


def _unknown(answer: Any) -> Skipped:
    return Skipped("unknown kind")


def _of_numpy(array: Any) -> Any:
    if array.size <= _FEW:
        return array.tolist()
    return _copied(array, "copy")


def _of_torch(tensor: Any) -> Any:
    if not tensor.is_cpu:
        return _of_device(tensor)
    if tensor.numel() <= _FEW:
        return tensor.tolist()
    return _copied(tensor.detach(), "clone")


def _copied(array: Any, copy: str) -> Any:
    """Of an array with at least one dimension."""
    rows = int(array.shape[0])
    step = _step(array, rows, MOST_NUMBERS)
    if step is None:
        return Skipped("too large", rows)
    if step == 1:
        return getattr(array, copy)()
    return Part(getattr(array[::step], copy)(), rows)


def _of_device(tensor: Any) -> Any:
    if not tensor.dim():
        return DEVICES.fetch(tensor, 1, 1) or Skipped("on a device")
    rows = int(tensor.shape[0])
    step = _step(tensor, rows, MOST_NUMBERS // 4)
    if step is None:
        return Skipped("too large", rows)
    later = DEVICES.fetch(tensor, -(-rows // step), step)
    if later is None:
        return Skipped("on a device", rows)
    return later if step == 1 else Part(later, rows)


def _step(array: Any, rows: int, most_numbers: int) -> int | None:
    """From each row that is looked at to the next one; None where a single one is too long."""
    numbers = 1
    for size in array.shape[1:]:
        numbers *= int(size)
    if numbers > most_numbers:
        return None
    most = min(rows, MOST_ROWS, most_numbers // max(1, numbers))
    return 1 if most == rows else -(-rows // most)


def _of_list(answer: Any) -> Any:
    rows = len(answer)
    if rows <= MOST_ROWS:
        for item in answer:
            if type(item) not in _UNCHANGING:
                return [keep(item) for item in answer]
        return list(answer)
    return Part([keep(item) for item in answer[:: -(-rows // MOST_ROWS)]], rows)


def _of_dict(answer: Any) -> Any:
    return {key: keep(value) for key, value in islice(dict.items(answer), _MOST_KEYS)}


def _of_fields(answer: Any, fields: Iterable[str]) -> Any:
    """Of an object with named outputs, as those of Transformers are."""
    values = object.__getattribute__(answer, "__dict__")
    return {name: keep(values[name]) for name in list(fields)[:_MOST_KEYS] if values.get(name) is not None}


_UNCHANGING: frozenset[type] = frozenset({str, bytes, int, float, bool, type(None)})
#: By class; those that nobody has to be asked about, and those that have been seen.
_KEPT_BY: dict[type, Callable[[Any], Any]] = {
    **dict.fromkeys(_UNCHANGING, _itself),
    **dict.fromkeys((list, tuple), _of_list),
    dict: _of_dict,
    Skipped: _itself,
}
#: Of TensorFlow, Keras, JAX and PyTorch.
_TRACED = frozenset({"SymbolicTensor", "KerasTensor", "Tracer", "FakeTensor"})
#: Whether it is one, by class.
_ARRAYS: dict[type, bool] = {}
_MOST_KINDS = 1_000
