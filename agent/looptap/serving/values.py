"""Any value of the program in few words: copied where it is, at the price of a few values and no call of the program's code, and
told later, without secrets and as short as it has to be.

Between the two it consists of None, booleans, numbers, and the classes here.
"""

from __future__ import annotations

import enum
import math
import types
from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import islice
from pathlib import PosixPath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any, NamedTuple
from uuid import UUID

from looptap.fields import ABSENT, declared_fields, held_by, is_declared, is_pydantic
from looptap.redaction import REDACTED, Redactor
from looptap.serving.answers import is_traced

#: Of a text so many characters are told at most. More are copied: a secret that is cut in two looks like none.
TEXT = 2_000
_MARGIN = 1_000
#: Of a name in a dict.
_KEY = 100
#: Of a list, a dict or an array.
ITEMS = 50
_DEPTH = 6
#: Of all of it.
_VALUES = 1_000
_DIMENSIONS = 8
_TABLE_ROWS = 5
_INT64 = range(-(2**63), 2**63)
_INTEGER_BITS = 512
_MORE = "…"


class Cut(NamedTuple):
    """How much is told: characters of a text, and items of a list."""

    text: int
    items: int


class Text(NamedTuple):
    """The beginning of a text, and the length of all of it."""

    start: str
    length: int


class Items(NamedTuple):
    first: list[Any]
    length: int


class Pairs(NamedTuple):
    first: list[tuple[Text, Any]]
    length: int


class Facts(NamedTuple):
    """What is said of an array or of content by name, all of it."""

    by_name: dict[str, Any]


def copied(value: Any) -> Any:
    """Never raises on account of the value; what cannot be read safely is the name of its class."""
    return _Copying().of(value, 0)


def copied_pairs(pairs: Iterable[tuple[str, Any]]) -> Pairs:
    """As :func:`copied` of a dict with these."""
    return _Copying().pairs(list(pairs), 0)


def told(value: Any, cut: Cut, redactor: Redactor) -> Any:
    """What was copied as plain data that JSON can say. What is left out is told (``…``)."""
    if type(value) is Text:
        return _text(value, cut.text, redactor)
    if type(value) is Items:
        first = value.first[: cut.items]
        if len(first) == 2 and type(first[0]) is Text and redactor.is_secret(first[0].start):
            return [told(first[0], cut, redactor), REDACTED]  # a header, as many keep them
        more = [f"{_MORE} ({value.length:,} items)"] if value.length > len(first) else []
        return [told(item, cut, redactor) for item in first] + more
    if type(value) is Pairs:
        first_pairs = value.first[: cut.items]
        found = {
            _text(key, min(cut.text, _KEY), redactor): _under(key.start, item, cut, redactor)
            for key, item in first_pairs
        }
        return found | ({_MORE: f"({value.length:,} keys)"} if value.length > len(first_pairs) else {})
    if type(value) is Facts:
        return {name: told(item, cut, redactor) for name, item in value.by_name.items()}
    if type(value) is float and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


# --- private ----------------------------------------------------------------------------------------------------------


def _under(key: str, value: Any, cut: Cut, redactor: Redactor) -> Any:
    is_kept = value is None or type(value) is bool or not redactor.is_secret(key)
    return told(value, cut, redactor) if is_kept else REDACTED


def _text(text: Text, most: int, redactor: Redactor) -> str:
    shown = redactor.storable(text.start)
    if len(shown) > most or text.length > len(text.start):
        return f"{shown[:most]}{_MORE} ({text.length:,} characters)"
    return shown


class _Copying:
    """One value. It has room for so many inside."""

    def __init__(self) -> None:
        self._room = _VALUES

    def of(self, value: Any, depth: int) -> Any:
        kind = type(value)
        self._room -= 1
        if self._room < 0 or depth > _DEPTH:
            return _word(_MORE)
        if value is None or kind is bool or kind is float:
            return value
        try:
            return self._of_kind(value, kind, depth)
        except Exception:  # noqa: BLE001 - a library may refuse to say what is in its array
            return _word(_class_name(kind))

    def pairs(self, pairs: list[tuple[Any, Any]], depth: int, length: int | None = None) -> Pairs:
        found = [(self._key(key), self.of(value, depth + 1)) for key, value in pairs[:ITEMS] if value is not ABSENT]
        return Pairs(found, len(pairs) if length is None else length)

    def _of_kind(self, value: Any, kind: type, depth: int) -> Any:
        if issubclass(kind, str):
            return _start(str.__str__(value))
        if issubclass(kind, int):
            return _integer(int.__int__(value))
        if issubclass(kind, float):
            return float.__float__(value)
        if issubclass(kind, dict):
            return self.pairs(list(islice(dict.items(value), ITEMS)), depth, dict.__len__(value))
        for collection in (list, tuple, set, frozenset):
            if issubclass(kind, collection):
                return self._items(collection.__iter__(value), collection.__len__(value), depth)
        for binary in (bytes, bytearray):
            if issubclass(kind, binary):
                return Facts({"kind": _word(kind.__name__), "length": binary.__len__(value)})
        if kind is memoryview:
            return Facts({"kind": _word(kind.__name__), "length": value.nbytes})
        if issubclass(kind, enum.Enum):
            return _word(f"{kind.__name__}.{held_by(value).get('_name_')}")
        if kind in _SPOKEN:
            return _start(str(value))
        if is_declared(kind):
            return self.pairs(list(declared_fields(value).items()), depth)
        if is_pydantic(kind) or kind is types.SimpleNamespace:
            return self.pairs(list(held_by(value).items()), depth)
        return self._of_library(value, kind, depth)

    def _of_library(self, value: Any, kind: type, depth: int) -> Any:
        """Of classes that a library brings: those of the program itself may do anything when they are asked."""
        root = kind.__module__.partition(".")[0]
        if root == "numpy" and hasattr(kind, "dtype"):
            return self._array(value, depth)
        if root == "torch" and hasattr(kind, "untyped_storage") and not is_traced(kind):
            is_here = kind.__name__ in _TENSORS and value.is_cpu
            return self._array(value.detach(), depth) if is_here else self._shape(value)
        if root == "tensorflow" and kind.__name__ == "EagerTensor" and "CPU:" in value.device:
            return self._array(value.numpy(), depth)
        if root in ("tensorflow", "jaxlib", "jax") and hasattr(kind, "shape") and not is_traced(kind):
            return self._shape(value)
        if root == "pandas" and kind.__name__ == "DataFrame":
            head = value.iloc[:_TABLE_ROWS, :ITEMS]
            columns = [
                self._items(iter(head.iloc[:, place].tolist()), len(value), depth + 1) for place in range(head.shape[1])
            ]
            return Pairs(list(zip(map(self._key, head.columns.tolist()), columns, strict=True)), int(value.shape[1]))
        if root == "pandas" and kind.__name__ == "Series":
            return self._items(iter(value.iloc[:ITEMS].tolist()), len(value), depth)
        if root == "PIL" and hasattr(kind, "getbands"):
            return Facts({"kind": _word(kind.__name__), "size": list(value.size)})
        return _word(_class_name(kind))

    def _items(self, items: Iterable[Any], length: int, depth: int) -> Items:
        return Items([self.of(item, depth + 1) for item in islice(items, ITEMS)], length)

    def _array(self, array: Any, depth: int) -> Any:
        if not array.shape:
            only = array.tolist()
            return self.of(only, depth + 1) if type(only) is not type(array) else _word(_class_name(type(array)))
        shape = self._shape(array)
        try:
            first, length = _first_values(array)
        except Exception:  # noqa: BLE001 - of a kind that cannot be indexed; its shape is known
            return shape
        return Facts(shape.by_name | {"values": self._items(first, length, depth + 1)})

    def _shape(self, array: Any) -> Facts:
        dtype = array.dtype
        named = getattr(dtype, "name", None) or str(dtype).rpartition(".")[2]
        sizes = [None if size is None else int(size) for size in list(array.shape)[:_DIMENSIONS]]
        return Facts({"shape": sizes, "dtype": _start(str(named))})

    def _key(self, key: Any) -> Text:
        kind = type(key)
        if issubclass(kind, str):
            return _start(str.__str__(key))
        return _word(str(key) if key is None or kind in (bool, int, float) else _class_name(kind))


def _first_values(array: Any) -> tuple[list[Any], int]:
    """In the order of rows, from as small a part as they are in; and how many there are."""
    room, length, part = ITEMS, 1, list[slice]()
    for size in reversed([int(size) for size in array.shape]):
        part.insert(0, slice(0, min(size, room)))
        room, length = -(-room // max(1, size)), length * size
    nested = array[tuple(part)].tolist()
    for _ in part[1:]:
        nested = [value for inner in nested for value in inner]
    return nested[:ITEMS], length


def _integer(number: int) -> Any:
    if number in _INT64:
        return number
    bits = number.bit_length()
    return _word(str(number) if bits <= _INTEGER_BITS else f"int of {bits:,} bits")


def _start(text: str) -> Text:
    return Text(text[: TEXT + _MARGIN], len(text))


def _word(text: str) -> Text:
    return Text(text, len(text))


def _class_name(kind: type) -> str:
    module = kind.__module__
    return f"{module}.{kind.__qualname__}" if type(module) is str and module != "builtins" else kind.__qualname__


#: Of the classes themselves: what stands for tensors in a trace, or is spread over devices, has classes of its own.
_TENSORS = frozenset({"Tensor", "Parameter", "Buffer"})
#: Whose text says it all; of these classes only, and none that inherit from them.
_SPOKEN = frozenset(
    {datetime, date, time, timedelta, Decimal, UUID, complex} | {PosixPath, WindowsPath, PurePosixPath, PureWindowsPath}
)
