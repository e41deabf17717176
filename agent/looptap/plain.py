"""Any Python object as something that can be written down: None, bool, int, float, str, or small lists and dicts of these.

What has no plain form is shortened to a text, never raised. Nothing here waits for a device or reads an array's content.
"""

from __future__ import annotations

import dataclasses
import enum
import math
import os
import sys
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

TEXT_LIMIT = 8_192
ITEMS_LIMIT = 100
DEPTH_LIMIT = 5
# Typed as any: mypy believes that no class can inherit it.
_repr_of_object: Any = object.__repr__
_INT64 = range(-(2**63), 2**63)


def plain(value: Any, depth: int = 0) -> Any:
    """The plain form of ``value``. Integers beyond 64 bits become text, so that none is rounded."""
    kind = type(value)
    if value is None or kind is bool or kind is float:
        return value
    if kind is int:
        return value if value in _INT64 else text(value)
    if kind is str:
        return clean(value)
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, (bool, int, float, str)):  # subclasses: numpy.float64, numpy.str_, IntFlag, …
        for base in (bool, int, float, str):
            if isinstance(value, base):
                return plain(base(value))
    if isinstance(value, os.PathLike):
        return clean(os.fsdecode(os.fspath(value)))
    if isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")):
        return f"{getattr(value, '__module__', '')}.{value.__qualname__}".lstrip(".")
    if depth >= DEPTH_LIMIT:
        return text(value)
    if dataclasses.is_dataclass(value):
        value = {item.name: getattr(value, item.name, None) for item in dataclasses.fields(value)}
    elif type(value).__name__ == "Namespace" and hasattr(value, "__dict__"):
        value = vars(value)
    if isinstance(value, Mapping):
        items = list(value.items())[:ITEMS_LIMIT]
        return {clean(str(key)): plain(item, depth + 1) for key, item in items}
    if isinstance(value, (list, tuple, AbstractSet, range)):
        return [plain(item, depth + 1) for item in list(value)[:ITEMS_LIMIT]]
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return _array(value)
    return text(value)


def flat(values: Mapping[Any, Any]) -> dict[str, Any]:
    """Dicts inside become dotted keys; an empty one stays a value."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            found.update({f"{key}.{inner}": item for inner, item in flat(value).items()})
        else:
            found[str(key)] = value
    return found


def _array(value: Any) -> Any:
    """numpy scalars by value; arrays and tensors by shape and type only, because their content may be on a device."""
    if type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0:
        return plain(value.item())
    shape = ", ".join(str(size) for size in tuple(value.shape))
    return f"{type(value).__name__}({shape}; {value.dtype})"


def text(value: Any) -> str:
    """``repr`` in at most :data:`TEXT_LIMIT` characters; the class name where repr fails or only gives an address."""
    kind = type(value)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if kind.__repr__ is _repr_of_object:
        return name
    try:
        return clean(repr(value))
    except Exception:  # noqa: BLE001 - a user's __repr__ may raise anything
        return name


def clean(value: str) -> str:
    """Shortened, and without the lone surrogates that UTF-8 cannot carry."""
    if len(value) > TEXT_LIMIT:
        value = f"{value[: TEXT_LIMIT - 40]}… ({len(value)} characters)"
    if value.isascii():
        return value
    return value.encode("utf-8", "backslashreplace").decode("utf-8")


def is_number(value: Any) -> bool:
    """Whether there is one number in it, told without a look at it: it may be on a device."""
    if isinstance(value, (int, float)):
        return True
    shape = getattr(value, "shape", None)
    return hasattr(value, "dtype") and shape is not None and math.prod(shape) == 1


def number(value: Any) -> float:
    """A metric's value as float64. Raises TypeError or ValueError when it is not one number.

    Text is refused: ``float("12")`` would invent a number where the program has a label.
    """
    if isinstance(value, (str, bytes, bytearray)):
        raise TypeError("text is not a number")
    if getattr(value, "requires_grad", False) is True:
        value = value.detach()  # or PyTorch warns, and with warnings as errors there would be no value
    result = float(value)
    if math.isinf(result) and isinstance(value, int):
        raise ValueError("too large for float64")
    return result


def step_number(value: Any) -> int:
    """A step as a 64-bit integer. Raises TypeError or ValueError when it is not one."""
    result = int(value)
    if result != value or result not in _INT64:
        raise ValueError(f"step {text(value)} is not a 64-bit whole number")
    return result


def exception(error: BaseException) -> str:
    """Type and message of an exception, on few lines."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - a user's __str__ may raise anything
        message = "(unprintable)"
    return clean(f"{name}: {message}" if message else name)


def main_script() -> str | None:
    """Path of the program that was started, as its author would name it; None in an interactive session."""
    main = sys.modules.get("__main__")
    path = getattr(main, "__file__", None)
    return os.path.abspath(path) if isinstance(path, str) else None
