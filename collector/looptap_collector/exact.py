"""MessagePack that loses nothing: floats are told from texts and from whole numbers, NaN and -0.0 are themselves, and a whole
number may be of any size. Those beyond 64 bits, for which MessagePack has no form, are an extension of type 1: the number in
two's complement, the highest byte first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

MEDIA_TYPE = "application/x-msgpack"
_LARGE = 1
_Shape = TypeVar("_Shape")


def encode(content: Any) -> bytes:
    try:
        return msgspec.msgpack.encode(content)
    except OverflowError:
        return msgspec.msgpack.encode(_without_large(content))


def decode(body: bytes, shape: type[_Shape]) -> _Shape:
    """Raises :class:`msgspec.MsgspecError` for what is not of this shape."""
    return msgspec.msgpack.decode(body, type=shape, ext_hook=_extension)


def _without_large(value: Any) -> Any:
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
        return msgspec.msgpack.Ext(_LARGE, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))
    if isinstance(value, msgspec.Struct):
        value = msgspec.to_builtins(value, builtin_types=(bytes,))
    if isinstance(value, Mapping):
        return {key: _without_large(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_large(item) for item in value]
    return value


def _extension(code: int, data: memoryview) -> int:
    if code != _LARGE:
        raise msgspec.ValidationError(f"an extension of type {code}")
    return int.from_bytes(data, "big", signed=True)
