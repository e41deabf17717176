"""Looking at the variables of a program that is running, without leaving a trace in it.

Up to Python 3.12 the mere reading of ``frame.f_locals`` of a function does two things to the program: it makes a dict that
lives as long as the call and keeps every local object alive (a batch and its graph, in a training loop), and it changes the
dict that an earlier ``locals()`` gave to the program. Neither may happen, so nobody reads ``f_locals`` but this module.
"""

from __future__ import annotations

import dis
import inspect
import sys
from collections.abc import Iterator
from types import BuiltinFunctionType, CodeType, FrameType, FunctionType, GetSetDescriptorType, ModuleType
from typing import Any

_DEPTH_LIMIT = 50
#: Values without variables of the program in them.
_CLOSED = (ModuleType, FunctionType, BuiltinFunctionType, type, str, bytes, int, float, type(None))


def local_variables(frame: FrameType) -> dict[str, Any]:
    """Names and values of the locals, as a copy (of a module: of its globals).

    Empty for a function, before Python 3.13, that calls ``locals()`` or ``vars()`` itself.
    """
    code = frame.f_code
    if sys.version_info >= (3, 13) or not code.co_flags & inspect.CO_OPTIMIZED:
        return dict(frame.f_locals)
    if _takes_snapshots(code):
        return {}
    snapshot = frame.f_locals
    copy = dict(snapshot)
    # The variable, the argument and the frame hold it. Anyone beside (a debugger) would see it emptied.
    if sys.getrefcount(snapshot) <= 3:
        snapshot.clear()
    return copy


def _takes_snapshots(code: CodeType) -> bool:
    """Whether the function may hold the dict that reading its locals would change."""
    if "locals" not in code.co_names and "vars" not in code.co_names:
        return False
    instructions = iter(dis.get_instructions(code))
    for instruction in instructions:
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            if instruction.argval == "locals":
                return True
            # vars() gives the locals, vars(args) does not.
            if instruction.argval == "vars" and next(instructions).opname.startswith(("PRECALL", "CALL")):
                return True
    return False


def outward(frame: FrameType | None) -> Iterator[FrameType]:
    """The frame, its caller, and so on, 50 at most."""
    for _ in range(_DEPTH_LIMIT):
        if frame is None:
            return
        yield frame
        frame = frame.f_back


def package_of(frame: FrameType | None) -> str:
    """The top package that the frame's code is from; empty where there is none."""
    return "" if frame is None else str(frame.f_globals.get("__name__", "")).partition(".")[0]


def caller(frame: FrameType | None) -> FrameType | None:
    """Who called the function under observation: the first frame outwards that is not ours."""
    while frame is not None and package_of(frame) in ("looptap", "looptap_integrations"):
        frame = frame.f_back
    return frame


def variables_in_reach(frame: FrameType) -> Iterator[tuple[str, Any]]:
    """Names with values as one would use them at this place, nearest first: the locals, the globals, then one level
    deep: attributes of the objects, values of dicts with text keys, items of lists (``opts.0``)."""
    local = local_variables(frame)
    yield from local.items()
    is_module = frame.f_locals is frame.f_globals if not frame.f_code.co_flags & inspect.CO_OPTIMIZED else False
    outer = {} if is_module else dict(frame.f_globals)
    yield from outer.items()
    for name, value in (*local.items(), *outer.items()):
        yield from _inside(name, value)


def _inside(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    kind = type(value)
    if issubclass(kind, _CLOSED) or name.startswith("__"):
        return
    if kind is list or kind is tuple:
        for index, item in enumerate(value[:20]):
            yield f"{name}.{index}", item
        return
    if not issubclass(kind, dict):
        # Not vars(): a proxy's __dict__ is the program's code, and looking must not run it.
        descriptor = next((vars(base)["__dict__"] for base in kind.__mro__ if "__dict__" in vars(base)), None)
        if type(descriptor) is not GetSetDescriptorType:
            return
        value = descriptor.__get__(value)
    if type(value) is dict and len(value) <= 1000:
        yield from [(key, item) for key, item in value.items() if type(key) is str]


def is_main_script(code: CodeType) -> bool:
    """Whether this code stands in the program's main file."""
    return code.co_filename == getattr(sys.modules.get("__main__"), "__file__", None)
