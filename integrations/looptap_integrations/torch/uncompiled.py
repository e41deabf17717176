"""Our own functions are none of the program's, and PyTorch's compiler is to leave them alone.

Where a compiled function has a graph break, the compiler looks at every Python function that is called until it goes on. It would
compile our observers too: graphs, breaks and seconds that the program has not asked for, and errors of the compiler in its face.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

import torch

_PACKAGES = ("looptap.", "looptap_integrations.")
#: Below these runs code of the program, which may well be compiled.
_OURS_AROUND_THE_PROGRAMS = {
    ("looptap.patching", "observed"),
    ("looptap.patching", "tapped"),
    ("looptap.patching", "excepted"),
    ("looptap.patching", "followed"),
    ("looptap.patching", "guarded"),
    ("looptap_integrations.torch.closures", "__call__"),
}
_MODULES_AROUND_THE_PROGRAMS = {"looptap.launch", "looptap.importing", "looptap.cli"}

_marked: set[CodeType] = set()
_modules: set[str] = set()


def leave_to_the_interpreter() -> None:
    """Mark all functions of ours that have been imported by now. Again costs next to nothing where no module is new."""
    mark = _marker()
    for name, module in sys.modules.copy().items():  # one step, whatever another thread imports
        if not name.startswith(_PACKAGES) or name in _modules:
            continue
        _modules.add(name)
        for code in _codes(module):
            if code not in _marked:
                _marked.add(code)
                is_around = name in _MODULES_AROUND_THE_PROGRAMS or (name, code.co_name) in _OURS_AROUND_THE_PROGRAMS
                mark(code, is_around)


def _marker() -> Callable[[CodeType, bool], None]:
    """What has a function left alone: with everything that it calls, or, being around the program's own code, by itself."""
    kind: Any = torch._C._dynamo.eval_frame
    set_strategy = getattr(kind, "set_code_exec_strategy", None)
    if (
        set_strategy is None
    ):  # before 2.7; what ours call is then PyTorch's and the standard library's, most of it left alone
        return lambda code, is_around: kind.skip_code(code)
    alone = kind._FrameExecStrategy(kind._FrameAction.SKIP, kind._FrameAction.DEFAULT)
    with_all_below = kind._FrameExecStrategy(kind._FrameAction.SKIP, kind._FrameAction.SKIP)
    return lambda code, is_around: set_strategy(code, alone if is_around else with_all_below)


def _codes(module: ModuleType) -> Iterator[CodeType]:
    """Of the functions and methods defined in a module, and of the functions inside of these."""
    waiting: list[Any] = list(vars(module).values())
    while waiting:
        item = waiting.pop()
        if isinstance(item, CodeType):
            yield item
            waiting.extend(constant for constant in item.co_consts if isinstance(constant, CodeType))
        elif isinstance(item, (staticmethod, classmethod)):
            waiting.append(item.__func__)
        elif isinstance(item, property):
            waiting.extend((item.fget, item.fset))
        elif isinstance(item, FunctionType) and item.__module__ == module.__name__:
            waiting.append(item.__code__)
            waiting.append(getattr(item, "__wrapped__", None))
        elif isinstance(item, type) and item.__module__ == module.__name__:
            waiting.extend(vars(item).values())
