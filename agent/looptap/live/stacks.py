"""Where the threads of this process are, looked at a hundred times a second from a thread beside them.

A look takes the interpreter for some microseconds and asks nothing of the threads, so it also works on one that hangs. What is kept
are code objects and line numbers, never frames: these would keep the program's values alive.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Any, NamedTuple, TextIO

#: Seconds between two looks.
PAUSE_SECONDS = 0.01
_OURS = "looptap-"
_LINES = 25


class Place(NamedTuple):
    """A function on a stack, and the line that it is at."""

    code: CodeType
    line: int

    @property
    def function(self) -> str:
        name = getattr(self.code, "co_qualname", self.code.co_name)
        return f"{name} ({os.path.basename(self.code.co_filename)}:{self.code.co_firstlineno})"

    def __str__(self) -> str:
        return f"{os.path.basename(self.code.co_filename)}:{self.line} {self.code.co_name}"


class Looks:
    """Of one stretch of time. ``stacks``: by thread, when each look was (microseconds since the begin) and what it saw, outermost
    first. ``trains`` is the thread that trains."""

    def __init__(self, trains: int) -> None:
        self.trains = trains
        self.began_ns = time.time_ns()
        self.seconds = 0.0
        self.count = 0
        self.stacks: dict[int, list[tuple[int, tuple[Place, ...]]]] = {}
        self.names: dict[int, str] = {}
        #: By which the system knows them: 32 bits, as viewers of traces expect.
        self.native: dict[int, int] = {}

    def take(self, seconds: float, over: threading.Event) -> None:
        """Until the time is over, or ``over`` is set."""
        began = time.monotonic()
        known: dict[tuple[Place, ...], tuple[Place, ...]] = {}
        while (elapsed := time.monotonic() - began) < seconds:
            self.seconds, self.count = elapsed, self.count + 1
            self._look(round(elapsed * 1e6), known)
            if over.wait(PAUSE_SECONDS):
                break
        self.seconds = time.monotonic() - began

    def _look(self, at: int, known: dict[tuple[Place, ...], tuple[Place, ...]]) -> None:
        threads = {thread.ident: thread for thread in threading.enumerate()}
        for ident, frame in sys._current_frames().items():
            thread = threads.get(ident)
            name = thread.name if thread is not None else f"thread {ident}"
            if name.startswith(_OURS):
                continue
            places = []
            outer: FrameType | None = frame
            while outer is not None:
                places.append(Place(outer.f_code, outer.f_lineno or outer.f_code.co_firstlineno))
                outer = outer.f_back
            stack = tuple(reversed(places))
            self.names[ident] = name
            self.native[ident] = (thread.native_id if thread is not None else None) or ident & 0x7FFFFFFF
            self.stacks.setdefault(ident, []).append((at, known.setdefault(stack, stack)))


def write_trace(looks: Looks, file: TextIO) -> None:
    """In the trace event format of Chrome, which Perfetto opens: a function that neighbouring looks have seen was under way between
    them."""
    pid = os.getpid()
    names: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []
    for ident, seen in looks.stacks.items():
        thread = {"pid": pid, "tid": looks.native[ident]}
        name = looks.names[ident] + (" (trains)" if ident == looks.trains else "")
        names.append({"ph": "M", "name": "thread_name", "args": {"name": name}, **thread})
        for place, start, end in _spans(seen, round(looks.seconds * 1e6)):
            where = f"{place.code.co_filename}:{place.code.co_firstlineno}"
            timing = {"ts": start, "dur": max(1, end - start)}
            events.append({"ph": "X", "name": place.function, "args": {"where": where}, **timing, **thread})
    # Of those that begin together, the one that calls the others comes first: by that, viewers know what lies in what.
    events.sort(key=lambda event: (event["ts"], -event["dur"]))
    json.dump(
        {"traceEvents": names + events, "displayTimeUnit": "ms", "otherData": {"began_ns": str(looks.began_ns)}}, file
    )


def _spans(seen: list[tuple[int, tuple[Place, ...]]], end: int) -> Iterator[tuple[Place, int, int]]:
    open_: list[tuple[Place, int]] = []
    for at, stack in seen:
        same = 0
        while same < min(len(open_), len(stack)) and open_[same][0].code is stack[same].code:
            same += 1
        yield from ((place, start, at) for place, start in open_[same:])
        open_ = open_[:same] + [(place, at) for place in stack[same:]]
    yield from ((place, start, end) for place, start in open_)


def summary(looks: Looks, run: str) -> str:
    """One page: what the thread that trains was at."""
    seen = [stack for _, stack in looks.stacks.get(looks.trains, ())]
    moment = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(looks.began_ns // 10**9))
    lines = [f"{run}: {looks.seconds:.1f} s from {moment}, {looks.count:,} looks at {len(looks.stacks)} threads", ""]
    if not seen:
        return "\n".join([*lines, "The thread that began the run has ended.", ""])
    tops = Counter((str(stack[-1]), str(stack[-2]) if len(stack) > 1 else "") for stack in seen)
    lines.append("Where the thread that trains was, by share of the looks:")
    for (top, caller), count in tops.most_common(_LINES):
        lines.append(f"{count / len(seen):7.1%}  {top}{f'  from {caller}' if caller else ''}")
    under_way = Counter(function for stack in seen for function in {place.function for place in stack})
    lines += ["", "What was under way, with all that it called:"]
    lines += [f"{count / len(seen):7.1%}  {function}" for function, count in under_way.most_common(_LINES)]
    return "\n".join([*lines, ""])
