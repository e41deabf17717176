"""CUDA graphs. What is done while one is captured is no step: nothing of it happens. It happens at every replay, which calls no
hook of an optimizer or a backward pass; but then we know from the capture what there is, and where its loss lies.
"""

from __future__ import annotations

import sys
import weakref
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch

from looptap.patching import Call, Observation, Patcher
from looptap_integrations.torch.loss_names import CallSite, loss_name

if TYPE_CHECKING:
    from looptap_integrations.torch.loop import Loop

_NO_LOSS = (
    "a captured CUDA graph has a loss that the program keeps no variable for; its replays have steps, but not this loss"
)


class Captured:
    """What a graph does, in order: a loss (its call site, its tensor) or a step of an optimizer."""

    def __init__(self) -> None:
        self.does: list[tuple[CallSite | None, weakref.ref[Any]]] = []


class Graphs:
    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        #: What is being captured, with the thread's records switched off meanwhile.
        self.under_capture: Captured | None = None
        self._suppression: AbstractContextManager[None] | None = None
        self._captured: dict[int, tuple[weakref.ref[Any], Captured]] = {}

    def install(self, patch: Patcher) -> None:
        graph = torch.cuda.CUDAGraph
        patch.observe(graph, "capture_begin", self.on_begin)
        patch.observe(graph, "capture_end", self.on_end)
        patch.tap(graph, "replay", None, self.after_replay)

    def on_begin(self, call: Call) -> Observation:
        scalars = self._loop.scalars
        scalars.drain()  # torch.cuda.graph() has synchronised: whatever was under way is here
        scalars.captures += 1
        yield
        if call.error is not None:
            scalars.captures -= 1
        elif self.under_capture is None:
            self.under_capture = Captured()
            self._suppression = self._loop.record.suppress()
            self._suppression.__enter__()

    def on_end(self, call: Call) -> Observation:
        captured, self.under_capture = self.under_capture, None
        suppression, self._suppression = self._suppression, None
        if suppression is not None:
            suppression.__exit__(None, None, None)
        yield
        scalars = self._loop.scalars
        scalars.captures = max(0, scalars.captures - 1)
        if call.error is None and captured is not None and captured.does:
            self._remember(call.instance, captured)

    def backward(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A backward pass is being captured."""
        captured, loop = self.under_capture, self._loop
        given = args[0] if args else kwargs.get("tensors")
        tensors = (given,) if isinstance(given, torch.Tensor) else tuple(given or ())
        frame = loop.sites.program_frame(sys._getframe(1))
        if captured is None or frame is None:
            return
        for index, tensor in enumerate(tensors):
            if tensor.numel() != 1:
                continue
            site = loop.sites.at(frame, index)
            if site.name is None:
                site.name = loss_name(frame, (tensor,))
            captured.does.append((site, weakref.ref(tensor)))

    def step(self, optimizer: Any) -> None:
        """An optimizer step is being captured."""
        if self.under_capture is not None:
            self.under_capture.does.append((None, weakref.ref(optimizer)))

    def after_replay(self, args: tuple[Any, ...]) -> None:
        known = self._captured.get(id(args[0]))
        if known is None or known[0]() is not args[0] or self._loop.record.is_suppressed():
            return
        for site, reference in known[1].does:
            thing = reference()
            if thing is None:
                if site is not None:
                    self._loop.record.note("torch", _NO_LOSS)
            elif site is None:
                self._loop.completion.complete(thing)
            else:
                self._loop.completion.replayed(site, thing)

    def _remember(self, graph: Any, captured: Captured) -> None:
        key, known = id(graph), self._captured
        known[key] = (weakref.ref(graph, lambda _: known.pop(key, None)), captured)
