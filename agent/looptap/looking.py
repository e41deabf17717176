"""Looking at a program's objects without running any of its code.

A property may load, ``__getattr__`` may fetch, ``__len__`` may count the lines of a file and ``__repr__`` may print a table. None
of them is called here: an attribute is what lies in the object's or its class's own dictionary, a length is worked out by reading
what ``__len__`` would do, and an object is sketched from its attributes.
"""

from __future__ import annotations

import functools
import math
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

from looptap.plain import clean

MISSING: Any = object()
SKETCH_LIMIT = 1_000
_ITEMS = 20
_DEPTH = 4
#: Their attributes and lengths cost nothing and change nothing.
_WELL_KNOWN = {"builtins", "collections", "array", "numpy", "torch", "pandas", "pyarrow"}
_Builtin = (types.WrapperDescriptorType, types.MethodDescriptorType, types.BuiltinFunctionType)
_METHODS = {"size", "dim", "numel", "keys", "values"}
_CALLABLE: dict[str, Any] = {"len": len, "min": min, "max": max, "int": int, "float": float}
#: Of modules, by module and name: how many batches there are is rounded by one of these.
_ROUNDING: dict[tuple[str, str], Any] = {
    ("math", "ceil"): math.ceil,
    ("math", "floor"): math.floor,
    ("numpy", "ceil"): math.ceil,
    ("numpy", "floor"): math.floor,
}
_OPERATORS: dict[str, Callable[[float, float], float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "//": lambda a, b: a // b,
}
_OLD_OPERATORS = {
    "BINARY_ADD": "+",
    "BINARY_SUBTRACT": "-",
    "BINARY_MULTIPLY": "*",
    "BINARY_TRUE_DIVIDE": "/",
    "BINARY_FLOOR_DIVIDE": "//",
    "BINARY_SUBSCR": "[]",
}
_NUMBERS = (int, float)
_OF_NUMBERS = (min, max, int, float, math.ceil, math.floor)
_NOTHING = {"RESUME", "NOP", "CACHE", "PUSH_NULL", "PRECALL", "COPY_FREE_VARS", "NOT_TAKEN"}
_CALLS = {"CALL", "CALL_FUNCTION", "CALL_METHOD"}
_MOST_INSTRUCTIONS = 40
#: Of inspect: a generator or a coroutine.
_OTHER_KINDS = 0x20 | 0x80 | 0x200


class _NotPlain(Exception):
    """It does more than giving what is there."""


def class_name(thing: Any) -> str:
    kind = type(thing)
    return f"{kind.__module__}.{kind.__qualname__}"


def attribute(thing: Any, name: str, default: Any = None) -> Any:
    """What lies under that name in the object, its slots or its classes; ``default`` for a property or anything else that would
    have to be called."""
    try:
        found = _at_rest(thing, name)
    except Exception:  # noqa: BLE001 - an object whose __dict__ is none
        return default
    if found is MISSING:
        return default
    if isinstance(found, types.MemberDescriptorType):
        try:
            return found.__get__(thing, type(thing))
        except AttributeError:
            return default
    if isinstance(found, types.FunctionType) or not hasattr(type(found), "__get__"):
        return found
    return default


def attributes(thing: Any) -> dict[str, Any]:
    """The object's own dictionary."""
    try:
        found = object.__getattribute__(thing, "__dict__")
    except Exception:  # noqa: BLE001 - it has none
        return {}
    return dict(found) if type(found) is dict else {}


def text_of(thing: Any, *names: str) -> str | None:
    """The first of these attributes that is a text or a path."""
    for name in names:
        found = attribute(thing, name)
        if type(found) is str:
            return found
        if isinstance(found, (bytes, bytearray)):
            continue
        if type(found).__module__.partition(".")[0] == "pathlib":
            return str(found)
    return None


def is_well_known(thing: Any) -> bool:
    return type(thing).__module__.partition(".")[0] in _WELL_KNOWN


def _at_rest(thing: Any, name: str) -> Any:
    import inspect  # the import of looptap is waited for, and whoever has data to look at has imported it before

    return inspect.getattr_static(thing, name, MISSING)


# --- length -----------------------------------------------------------------------------------------------------------


def length(thing: Any) -> int | None:
    """``len(thing)`` where that is sure to be cheap and harmless, else None."""
    try:
        found = _length(thing, 0)
        return found if found is None or found <= sys.maxsize else None
    except Exception:  # noqa: BLE001 - len() of what is well known may raise, too: of an array without dimensions
        return None


def _length(thing: Any, depth: int) -> int | None:
    if depth > 3:
        return None
    function = _at_rest(type(thing), "__len__")
    if function is MISSING:
        return None
    if isinstance(function, _Builtin) or is_well_known(thing):
        return len(thing)
    if not isinstance(function, types.FunctionType):
        return None
    try:
        found = _worked_out(function, thing, depth)
    except _NotPlain:
        return None
    return found if type(found) is int and found >= 0 else None


def _worked_out(function: types.FunctionType, thing: Any, depth: int) -> Any:
    """What the function would return, by reading its code: attributes, numbers, ``len``, ``min``, ``max`` and arithmetic; nothing
    that is the program's is called."""
    import dis

    code = function.__code__
    if code.co_argcount != 1 or code.co_flags & _OTHER_KINDS:
        raise _NotPlain
    stack: list[Any] = []
    for number, step in enumerate(dis.get_instructions(code)):
        if number > _MOST_INSTRUCTIONS:
            raise _NotPlain
        name, value = step.opname, step.argval
        if name in _NOTHING:
            continue
        if name in ("LOAD_FAST", "LOAD_FAST_BORROW") and value == code.co_varnames[0]:
            stack.append(thing)
        elif name in ("LOAD_CONST", "LOAD_SMALL_INT"):
            stack.append(value)
        elif name == "LOAD_GLOBAL" and value in _CALLABLE and value not in function.__globals__:
            stack.append(_CALLABLE[value])
        elif name == "LOAD_GLOBAL" and type(function.__globals__.get(value)) is types.ModuleType:
            stack.append(function.__globals__[value])
        elif name == "UNARY_NEGATIVE" and type(stack[-1]) in _NUMBERS:
            stack.append(-stack.pop())
        elif name in ("LOAD_ATTR", "LOAD_METHOD"):
            stack.append(_part(stack.pop(), value))
        elif name == "BINARY_OP" or name in _OLD_OPERATORS:
            right, left = stack.pop(), stack.pop()
            stack.append(_combined(_OLD_OPERATORS.get(name) or step.argrepr, left, right))
        elif name in _CALLS:
            arguments = [stack.pop() for _ in range(step.arg or 0)][::-1]
            stack.append(_called(stack.pop(), arguments, depth))
        elif name == "RETURN_CONST":
            return value
        elif name == "RETURN_VALUE":
            return stack.pop()
        else:
            raise _NotPlain
    raise _NotPlain


def _part(thing: Any, name: str) -> Any:
    if type(thing) is types.ModuleType:
        if (thing.__name__, name) not in _ROUNDING:
            raise _NotPlain
        return _ROUNDING[thing.__name__, name]
    if is_well_known(thing) and type(thing).__module__ != "builtins":
        if callable(found := getattr(thing, name)) and name not in _METHODS:
            raise _NotPlain
        return found
    found = attribute(thing, name, MISSING)
    if found is MISSING or isinstance(found, types.FunctionType):
        raise _NotPlain
    return found


def _combined(sign: str, left: Any, right: Any) -> Any:
    if sign == "[]" and type(right) is int and type(left).__name__ in ("tuple", "list", "Size"):
        return left[right]
    if sign not in _OPERATORS or type(left) not in _NUMBERS or type(right) not in _NUMBERS:
        raise _NotPlain
    return _OPERATORS[sign](left, right)


def _called(function: Any, arguments: list[Any], depth: int) -> Any:
    if function is len and len(arguments) == 1:
        found = _length(arguments[0], depth + 1)
        if found is None:
            raise _NotPlain
        return found
    if function in _OF_NUMBERS and arguments and all(type(item) in _NUMBERS for item in arguments):
        return function(*arguments)
    owner = getattr(function, "__self__", None)
    if owner is not None and is_well_known(owner) and getattr(function, "__name__", "") in _METHODS:
        return function(*arguments)
    raise _NotPlain


# --- sketches ---------------------------------------------------------------------------------------------------------


def sketch(thing: Any) -> str:
    """One line that says what an object is and what it was set to: ``Compose(transforms=[ToTensor(), Normalize(mean=[0.5])])``. The
    same for equal objects in every process: no addresses. No ``__repr__`` is called but those of plain values."""
    told = clean(" ".join(_sketch(thing, 0).split()))
    return told if len(told) <= SKETCH_LIMIT else f"{told[: SKETCH_LIMIT - 1]}…"


def _sketch(thing: Any, depth: int) -> str:
    kind = type(thing)
    if thing is None or kind in (bool, float, complex):
        return repr(thing)
    if kind is int:
        return repr(thing) if thing.bit_length() < 256 else "int"
    if kind in (str, bytes):
        return repr(thing if len(thing) <= 200 else thing[:200])
    if issubclass(kind, functools.partial):
        inside = [_sketch(item, depth + 1) for item in thing.args[:_ITEMS]]
        inside += [f"{key}={_sketch(item, depth + 1)}" for key, item in list(thing.keywords.items())[:_ITEMS]]
        return f"partial({', '.join([_sketch(thing.func, depth + 1), *inside])})"
    if kind is types.MethodType:
        return f"{_sketch(thing.__self__, depth + 1)}.{thing.__func__.__name__}"
    if issubclass(kind, (type, types.FunctionType, types.BuiltinFunctionType)):
        return f"{thing.__module__}.{thing.__qualname__}".removeprefix("builtins.").removeprefix("__main__.")
    if is_well_known(thing) and kind.__name__ in ("ndarray", "Tensor", "Parameter"):
        shape = ", ".join(str(size) for size in tuple(thing.shape))
        return f"{kind.__name__}({shape}; {thing.dtype})"
    if depth >= _DEPTH:
        return "…"
    if kind in (list, tuple, set, frozenset):
        items = [_sketch(item, depth + 1) for item in list(thing)[:_ITEMS]]
        if kind in (set, frozenset):
            items.sort()
        more = ["…"] if len(thing) > _ITEMS else []
        return f"{'[' if kind is list else '('}{', '.join([*items, *more])}{']' if kind is list else ')'}"
    if kind is dict:
        items = [f"{_sketch(key, depth + 1)}: {_sketch(item, depth + 1)}" for key, item in list(thing.items())[:_ITEMS]]
        return f"{{{', '.join(items)}}}"
    if isinstance(name := attribute(thing, "_name_"), str):  # a member of an enum
        return f"{kind.__name__}.{name}"
    return f"{kind.__name__}({', '.join(_settings(thing, depth))})"


def _settings(thing: Any, depth: int) -> Sequence[str]:
    own = [(name, value) for name, value in attributes(thing).items() if type(name) is str]
    shown = [(name, value) for name, value in own if not name.startswith("_") and name != "training"]
    told = [f"{name}={_sketch(value, depth + 1)}" for name, value in shown[:_ITEMS]]
    modules = dict(own).get("_modules")  # of torch.nn.Module: a transform may be one
    if type(modules) is dict:
        told += [f"{name}={_sketch(part, depth + 1)}" for name, part in list(modules.items())[:_ITEMS]]
    return told
