"""Backward passes off the shortest path: several losses, a GradScaler, a device, a new call site, a new run."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch

from looptap_integrations.torch.loss_names import DEFAULT, CallSite, loss_name
from looptap_integrations.torch.scalars import Scalar
from looptap_integrations.torch.times import FORWARD

if TYPE_CHECKING:
    from looptap_integrations.torch.loop import Loop

_frame_at_depth = sys._getframe


class Backwarded:
    """A backward pass under way: the call sites whose losses were taken in, and the losses that no optimizer descends, which are
    steps of their own once it is over."""

    __slots__ = ("steps", "taken")

    def __init__(self) -> None:
        self.taken: list[CallSite] = []
        self.steps: list[tuple[CallSite, Scalar]] = []


class Backwards:
    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def take(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Backwarded | None:
        """Before the backward pass of these arguments, on any path but the shortest. None when it is none of a step."""
        loop = self._loop
        closure, record = loop.closure, loop.record
        if record.is_suppressed():
            if loop.graphs.under_capture is not None:
                loop.graphs.backward(args, kwargs)
            return None
        if loop.unseen is not None:
            loop.settle()
        if (closure is not None and closure.is_repeating) or record.covers("loss"):
            loop.times.into_forward()
            return Backwarded()
        if loop.scalars.has_device:
            loop.scalars.drain()
        given = args[0] if args else kwargs.get("tensors")
        usual: FrameType | None = None
        if isinstance(given, torch.Tensor):
            with contextlib.suppress(ValueError):
                usual = _frame_at_depth(4)
        tensors: Sequence[Any] = (given,) if isinstance(given, torch.Tensor) else tuple(given or ())
        losses = [
            loss for index, tensor in enumerate(tensors) if (loss := self._loss(tensor, index, usual)) is not None
        ]
        if not losses:
            return None
        token = self._keep(losses, tensors)
        loop.times.into_forward()
        if loop.marks is not None:
            loop.marks.mark(FORWARD)
        return token

    def _keep(self, losses: list[tuple[CallSite, Scalar]], tensors: Sequence[torch.Tensor]) -> Backwarded:
        """Before the backward pass, since optimizers may step inside of it."""
        loop = self._loop
        if loop.record.generation != loop.generation:
            loop.record.begin()
            loop.new_run()
        rounds, count, token = loop.rounds, loop.optimizers.count, Backwarded()
        for site, value in losses:
            if site.checked != count and (site in rounds.counts or not site.is_trained):
                # A second time without a step in between: accumulation, or no optimizer has to do with it.
                site.is_trained = loop.optimizers.train(tensors)
                site.checked = count
                if not site.is_trained:
                    loop.sites.forget_near(site)
            if site.is_trained:
                name = site.name or DEFAULT
                site.before = rounds.pending.get(name)
                rounds.backward(site, name, value)
                token.taken.append(site)
            else:
                token.steps.append((site, value))
        return token

    def _loss(self, tensor: Any, index: int, usual: FrameType | None) -> tuple[CallSite, Scalar] | None:
        """Where this loss is backwarded, and its value before any scaling; None when it is no loss of a step."""
        loop = self._loop
        frame = loop.sites.program_frame(sys._getframe(1))
        if frame is None:
            return None
        site = loop.sites.at(frame, index)
        original = None
        if loop.scaling.in_use:
            value, original = loop.scaling.value_before(tensor)
        else:
            value = loop.scalars.read(tensor)
        if value is None:
            return None
        if site.name is None:
            site.name = loss_name(frame, (original, tensor))
        if index == 0 and frame is usual and site.is_trained:
            loop.near[frame.f_lasti] = site
        return site, value
