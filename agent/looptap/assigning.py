"""To which variable the program assigns what a call returns: ``acc`` in ``acc = metric.compute()``.

Told from the code around the call, before the call has returned, once for each place. ``x += f()`` assigns to x too, and what f
returns is then one part of it.
"""

from __future__ import annotations

import dis
from types import CodeType, FrameType
from typing import NamedTuple

#: From here on the value is no longer alone: in a container, in one of several targets, in another statement.
_ENDS = (
    "POP_TOP",
    "BUILD",
    "UNPACK",
    "FOR_",
    "YIELD",
    "SEND",
    "STORE_SUBSCR",
    "RAISE",
    "POP_JUMP",
    "JUMP",
    "COMPARE",
    "LIST_",
)
_STORES = ("STORE_FAST", "STORE_NAME", "STORE_GLOBAL", "STORE_DEREF", "STORE_ATTR")
_LIMIT = 60


class Assigned(NamedTuple):
    """``name`` is None where the value goes nowhere that has one name."""

    name: str | None
    #: Added to what the variable had.
    is_added: bool = False
    #: Given back to the caller of this function, who may assign it.
    is_returned: bool = False


_NOWHERE = Assigned(None)
_known: dict[tuple[CodeType, int], Assigned] = {}


def assigned(frame: FrameType) -> Assigned:
    """Where the value of the call that this frame stands at goes."""
    key = (frame.f_code, frame.f_lasti)
    found = _known.get(key)
    if found is None:
        found = _known[key] = _look(*key)
    return found


def assigned_name(frame: FrameType | None) -> Assigned:
    """The same, followed outwards through ``return f(x)``."""
    depth = 0
    while frame is not None and depth < 5:
        found = assigned(frame)
        if not found.is_returned:
            return found
        frame, depth = frame.f_back, depth + 1
    return _NOWHERE


def _look(code: CodeType, instruction: int) -> Assigned:
    is_added = is_shuffled = is_copied = False
    after = [step for step in dis.get_instructions(code) if step.offset > instruction and step.opname != "CACHE"][
        :_LIMIT
    ]
    for index, step in enumerate(after):
        name = step.opname
        if name.startswith("RETURN"):
            return Assigned(None, is_returned=not is_added)
        if name.startswith(_STORES):
            following = after[index + 1].opname if index + 1 < len(after) else ""
            # a, b = f(), g() stores twice in a row; so does a = b = f(), which copies.
            is_one = name == "STORE_ATTR" or not (is_shuffled or "_STORE_" in name[5:])
            if not is_one or (following.startswith(_STORES) and not is_copied):
                return _NOWHERE
            target = step.argval[0] if isinstance(step.argval, tuple) else step.argval
            # pytest keeps what an assert compares in variables that no program can have.
            return Assigned(target, is_added) if str(target).isidentifier() else _NOWHERE
        if name.startswith(_ENDS):
            return _NOWHERE
        if name.startswith("INPLACE_") or (name == "BINARY_OP" and step.argrepr.endswith("=")):
            is_added = True
        is_shuffled |= name in ("SWAP", "ROT_TWO", "ROT_THREE")
        is_copied |= name in ("COPY", "DUP_TOP")
    return _NOWHERE
