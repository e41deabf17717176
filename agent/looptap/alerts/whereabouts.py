"""Where the thread that trains is at this moment, seen from another one."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from itertools import takewhile
from types import FrameType

#: What is common to so many looks is the loop; what differs are the calls within one step.
_LOOKS = 3
_LOOPTAP = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


def stack_of(thread: int) -> list[FrameType]:
    """The frames of a thread, outermost first; none when it has ended. Not to be kept: frames keep the program's values alive."""
    frames: list[FrameType] = []
    frame = sys._current_frames().get(thread)
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames[::-1]


class Whereabouts:
    """:meth:`look` now and then while steps are made; then :meth:`in_words` can tell a loop that hangs from one that is over."""

    def __init__(self, thread: int) -> None:
        """``thread``: its :func:`threading.get_ident`."""
        self._thread = thread
        self._looks: deque[list[tuple[int, int]]] = deque(maxlen=_LOOKS)
        self._latest: tuple[float, list[tuple[int, int]]] | None = None

    def look(self, stepped: float) -> None:
        """``stepped``: when the last step was made (time.time). What was seen before that is of the loop; what is seen now is, too,
        if one more step follows."""
        if self._latest is not None and self._latest[0] < stepped:
            self._looks.append(self._latest[1])
        self._latest = (time.time(), _names(stack_of(self._thread)))

    def in_words(self) -> str | None:
        """``, in data.py:12 fetch, from train.py:40 main``; None when the loop that made the steps has been left."""
        frames = stack_of(self._thread)
        now = _names(frames)
        loop = [same[0] for same in takewhile(lambda same: len(set(same)) == 1, zip(*self._looks, strict=False))]
        if now[: len(loop)] != loop or not frames:
            return None
        shown = [frame for frame in frames if not frame.f_code.co_filename.startswith(_LOOPTAP)] or frames
        words = f", in {_place(shown[-1])}"
        own = [frame for frame in shown[:-1] if _is_users(frame.f_code.co_filename)]
        return f"{words}, from {_place(own[-1])}" if own and not _is_users(shown[-1].f_code.co_filename) else words


def _names(frames: list[FrameType]) -> list[tuple[int, int]]:
    return [(id(frame), id(frame.f_code)) for frame in frames]


def _place(frame: FrameType) -> str:
    code = frame.f_code
    return f"{os.path.basename(code.co_filename)}:{frame.f_lineno} {code.co_name}"


def _is_users(path: str) -> bool:
    """Not of a library."""
    return not any(part in path for part in ("site-packages", f"{os.sep}lib{os.sep}python", "<frozen"))
