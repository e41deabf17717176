"""What a pickle of PyTorch holds and where, without unpickling it: its instructions are read, and none of what they call is called.

Of all that they make, this knows dicts, lists and tuples, and :class:`Tensor` s in them; anything else is :class:`Other`, with
whatever it was made of. ``pickletools`` is the standard library's reader of instructions.
"""

from __future__ import annotations

import pickletools
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

#: After so many instructions other threads get their turn.
_AT_ONCE = 256


class Storage(NamedTuple):
    """A run of numbers in the file that has this key. One that is in no :class:`Tensor` belongs to something that this cannot
    tell."""

    kind: str
    key: str


class Tensor(NamedTuple):
    """A view of one; offset and strides count numbers."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Name(str):
    """Of a class or a function: module, blank, name."""


class Dict:
    def __init__(self) -> None:
        self.items: list[tuple[Any, Any]] = []


class Other:
    def __init__(self, *parts: Any) -> None:
        self.parts = list(parts)


def read(pickled: bytes) -> Any:
    """What the pickle is of. Raises ValueError, IndexError, KeyError, TypeError or AttributeError where it is not one that PyTorch
    writes."""
    stack: list[Any] = []
    #: What was on the stack at each mark that is open.
    marked: list[list[Any]] = []
    memo: dict[Any, Any] = {}
    for count, (code, argument, _) in enumerate(pickletools.genops(pickled)):
        if count % _AT_ONCE == 0:
            time.sleep(0)
        name = code.name
        if name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "MARK":
            marked.append(stack)
            stack = []
        elif name in _OF_ALL_SINCE_MARK:
            since, stack = stack, marked.pop()
            _OF_ALL_SINCE_MARK[name](stack, since)
        elif name in _OF_STACK:
            _OF_STACK[name](stack)
        elif name == "GLOBAL":
            stack.append(Name(argument))
        elif name == "STOP":
            return stack.pop()
        elif not code.stack_before and len(code.stack_after) == 1:
            stack.append(argument)  # a constant
        elif code.stack_after:
            raise ValueError(f"{name} is not expected")
    raise ValueError("the pickle has no end")


def inside(found: Any) -> Iterator[Any]:
    """Every tensor and storage in it, however deep; a tensor hides its own."""
    waiting, seen = [found], set[int]()
    while waiting:
        one = waiting.pop()
        if isinstance(one, Tensor | Storage):
            yield one
        elif isinstance(one, Dict | Other | list | tuple) and id(one) not in seen:
            seen.add(id(one))
            parts = one.parts if isinstance(one, Other) else one.items if isinstance(one, Dict) else one
            waiting.extend(reversed(parts))


# --- private ----------------------------------------------------------------------------------------------------------


def _pushes(count: int, make: Any) -> Any:
    """An instruction that makes one thing of the last ``count``."""

    def run(stack: list[Any]) -> None:
        parts = stack[len(stack) - count :]
        if len(parts) < count:
            raise IndexError("the stack is empty")
        del stack[len(stack) - count :]
        stack.append(make(*parts))

    return run


def _called(function: Any, arguments: Any) -> Any:
    if function == "collections OrderedDict" and not arguments:
        return Dict()
    if function == "torch._utils _rebuild_tensor_v2":
        storage, offset, shape, strides = arguments[:4]
        if isinstance(storage, Storage):
            return Tensor(storage, offset, shape, strides)
    if function == "torch._utils _rebuild_parameter":
        return arguments[0]
    if isinstance(function, Name) and function.startswith("torch._utils "):
        return Storage("", "")  # a sparse one, a quantized one, …
    return Other(arguments)


def _persistent(told: Any) -> Any:
    """What PyTorch keeps beside the pickle: ``("storage", class, key, device, count)``."""
    if isinstance(told, tuple) and len(told) == 5 and told[0] == "storage":
        return Storage(told[1], told[2])
    return Other(told)


def _build(stack: list[Any]) -> None:
    state = stack.pop()
    if isinstance(stack[-1], Other):
        stack[-1].parts.append(state)
    # Of a state dict it is its versions.


def _set(stack: list[Any], since: list[Any]) -> None:
    pairs = list(zip(since[::2], since[1::2], strict=True))
    if isinstance(stack[-1], Dict):
        stack[-1].items += pairs
    else:
        stack[-1].parts += pairs


def _append(stack: list[Any], since: list[Any]) -> None:
    if isinstance(stack[-1], list):
        stack[-1] += since
    else:
        stack[-1].parts += since


def _dict(stack: list[Any], since: list[Any]) -> None:
    stack.append(Dict())
    _set(stack, since)


_OF_ALL_SINCE_MARK: dict[str, Any] = {
    "TUPLE": lambda stack, since: stack.append(tuple(since)),
    "LIST": lambda stack, since: stack.append(since),
    "FROZENSET": lambda stack, since: stack.append(Other(*since)),
    "DICT": _dict,
    "SETITEMS": _set,
    "APPENDS": _append,
    "ADDITEMS": _append,
    "POP_MARK": lambda stack, since: None,
}


def _set_one(stack: list[Any]) -> None:
    value, key = stack.pop(), stack.pop()
    _set(stack, [key, value])


def _append_one(stack: list[Any]) -> None:
    value = stack.pop()
    _append(stack, [value])


_OF_STACK: dict[str, Any] = {
    "EMPTY_DICT": _pushes(0, Dict),
    "EMPTY_LIST": _pushes(0, list),
    "EMPTY_TUPLE": _pushes(0, tuple),
    "EMPTY_SET": _pushes(0, Other),
    "TUPLE1": _pushes(1, lambda *parts: parts),
    "TUPLE2": _pushes(2, lambda *parts: parts),
    "TUPLE3": _pushes(3, lambda *parts: parts),
    "STACK_GLOBAL": _pushes(2, lambda module, name: Name(f"{module} {name}")),
    "BINPERSID": _pushes(1, _persistent),
    "REDUCE": _pushes(2, _called),
    "NEWOBJ": _pushes(2, _called),
    "NEWOBJ_EX": _pushes(3, Other),
    "SETITEM": _set_one,
    "APPEND": _append_one,
    "BUILD": _build,
    "POP": lambda stack: stack.pop(),
    "DUP": lambda stack: stack.append(stack[-1]),
}
