"""A trace of ``torch.profiler``, taken on request while a training runs.

The profiler sees the calls of the thread that has started it, so it is started and stopped by the thread that trains, behind a step
of its optimizer; from there a slot in our own hook calls it. A hook of PyTorch's that came and went with the trace would
change the dictionary that the training is just iterating over.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from typing import Any

import torch
from torch import profiler

#: However short steps are: more than so many say no more, and take long to write.
MOST_STEPS = 50
#: How long it waits for the thread that trains, beyond the time that was asked for.
_LAST_STEP_SECONDS = 10.0


class _Ours(profiler.profile):
    """Told by its type from those of the program."""


class Tracing:
    """:meth:`on_step` by the thread that trains, :meth:`take` by another one."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        activities = [profiler.ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(profiler.ProfilerActivity.CUDA)
        self._profiler = _Ours(activities=activities)
        self._thread = 0
        self._began = 0.0
        self._steps = 0
        self._is_wanted = True
        self._lock = threading.Lock()
        self._failed: Exception | None = None
        self._done = threading.Event()

    @property
    def is_over(self) -> bool:
        """No step of the training is waited for any more."""
        return self._done.is_set() or not (self._thread or self._is_wanted)

    def on_step(self) -> None:
        """A step has ended. Never raises."""
        if self._done.is_set():
            return
        try:
            if not self._thread:
                if self._begins():
                    self._profiler.start()
            elif self._thread == threading.get_ident():
                self._steps += 1
                is_over = time.monotonic() - self._began >= self._seconds or not self._is_wanted
                if is_over or self._steps >= MOST_STEPS:
                    self._profiler.stop()
                    self._done.set()
        except Exception as error:  # noqa: BLE001 - of the profiler, not of the training
            self._failed = error
            self._done.set()

    def _begins(self) -> bool:
        with self._lock:
            if self._is_wanted and not torch._C._autograd._profiler_enabled():
                self._thread, self._began = threading.get_ident(), time.monotonic()
        return bool(self._thread)

    def take(self, path: str, over: threading.Event) -> str | None:
        """Wait for it, and write it to ``path``. Why there is none, or None."""
        until = time.monotonic() + self._seconds
        while not self._done.wait(0.05) and time.monotonic() < until and not over.is_set():
            pass
        with self._lock:
            self._is_wanted = False
        if self._thread:
            self._done.wait(0.0 if over.is_set() else _LAST_STEP_SECONDS)
        if self._failed is not None:
            return f"{type(self._failed).__name__}: {self._failed}"[:500]
        if not self._thread:
            return f"no step of an optimizer ended within {self._seconds:.0f} s"
        if not self._done.is_set():
            return "it began, and no step followed that could end it"
        self._profiler.export_chrome_trace(path)
        return None


def has_own_profiler() -> bool:
    """Whether the program profiles itself: two profilers at a time are an error, which would be the program's."""
    kinds = (profiler.profile, torch.autograd.profiler.profile)
    # Not isinstance: it asks objects that claim to be others.
    found = [one for one in gc.get_objects() if issubclass(type(one), kinds)]
    # Those of earlier traces may still be about.
    within = {id(one.profiler) for one in found if type(one) is _Ours}
    return any(type(one) is not _Ours and id(one) not in within for one in found)


def trace(loop: Any, folder: str, seconds: float, over: threading.Event) -> str | None:
    """See :meth:`looptap.integration.Integration.trace`. ``loop.tracing`` is the slot."""
    if loop.tracing is not None and not loop.tracing.is_over:
        return "the one before waits for a step to end with"
    loop.tracing = None
    if has_own_profiler():
        return "the program has a profiler of its own"
    loop.tracing = tracing = Tracing(seconds)
    try:
        return tracing.take(os.path.join(folder, "torch.json.gz"), over)
    finally:
        # Otherwise the next step ends it, whenever that is.
        if tracing.is_over:
            loop.tracing = None
