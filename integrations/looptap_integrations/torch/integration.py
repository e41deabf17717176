"""PyTorch training loops, whatever their shape: losses, steps, learning rates, scalers, and what was set how.

What an observer does on the path of every step is in this file and is written for speed; what a step is, is in
:mod:`~looptap_integrations.torch.steps`, what is looked up once per run, in :mod:`~looptap_integrations.torch.facts`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from types import FrameType
from typing import Any, TypeAlias

import torch
from torch.compiler import is_compiling
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.data import DataLoader, dataloader

from looptap.events import Context
from looptap.integration import Integration
from looptap.patching import Call, Observation, Patcher
from looptap.recorder import Recorder
from looptap_integrations.torch.facts import Facts
from looptap_integrations.torch.loss_names import DEFAULT, CallSite, CallSites, loss_name
from looptap_integrations.torch.model_files import ModelFiles
from looptap_integrations.torch.optimizers import NEVER, Known, Optimizers
from looptap_integrations.torch.passes import Passes
from looptap_integrations.torch.scalars import Scalar, Scalars
from looptap_integrations.torch.scaling import Scaling
from looptap_integrations.torch.steps import Rounds

#: How long the end of a run waits for values that a device still owes.
_FINISH_SECONDS = 1.0
#: Of one step: more calls of clip_grad_norm_ than this are not told apart.
_NORMS_LIMIT = 16

#: A loss that was backwarded: where, and its value.
Backwarded: TypeAlias = tuple[CallSite, Scalar]


class TorchIntegration(Integration):
    requires = "torch>=2.2"
    captures = (
        "the loss of every optimizer step, by its variable name; step time, epoch of the DataLoader",
        "learning rates, gradient norms that your own clip_grad_norm_ computes, GradScaler scale and skipped steps",
        "settings of optimizers, model, DataLoader, seeds and determinism flags at the first step",
        "files written with torch.save",
    )
    not_captured = (
        "steps of an optimizer whose step() is itself compiled: PyTorch calls no hook there",
        "losses of distributed tensors: reading one would wait for other machines",
    )

    def install(self, patch: Patcher, record: Recorder) -> None:
        self.record = record
        self.generation = -1
        self.rounds: Rounds[Scalar] = Rounds()
        self.sites = CallSites()
        self.scalars = Scalars()
        self.optimizers = Optimizers()
        self.passes = Passes()
        self.scaling = Scaling(self.scalars)
        self.facts = Facts(record)
        self.files = ModelFiles(record)
        #: True once losses are written without any optimizer.
        self.is_manual = False
        #: Gradient norms since the last step, in the order of the program's calls.
        self.norms: list[Scalar] = []
        self.closure: Closure | None = None
        self.ended: float | None = None
        self.epoch: int | None = None
        self.completed = 0

        patch.hook(register_optimizer_step_pre_hook, self.before_step)
        patch.hook(register_optimizer_step_post_hook, self.on_step)
        patch.tap("torch.autograd", "backward", self.before_backward, self.after_backward)
        patch.observe(Optimizer, "__init__", self.on_optimizer)
        patch.observe(DataLoader, "__iter__", self.on_pass)
        patch.tap(dataloader._BaseDataLoaderIter, "__next__", None, self.passes.fed)
        # The base class: torch.cuda.amp.GradScaler and torch.cpu.amp.GradScaler inherit from it.
        patch.observe(torch.amp.GradScaler, "scale", self.on_scale)
        patch.observe(torch.amp.GradScaler, "step", self.on_scaler_step)
        patch.observe(torch.amp.autocast_mode.autocast, "__enter__", self.on_autocast)
        patch.observe("torch", "save", self.on_save)
        patch.observe("torch.serialization", "save", self.on_save)
        clipping = torch.nn.utils.clip_grad
        if hasattr(clipping, "_clip_grads_with_norm_"):
            # The function inside clip_grad_norm_ (2.6 and later): seen also where the program imported the outer one by
            # name before us.
            patch.observe("torch.nn.utils.clip_grad", "_clip_grads_with_norm_", self.on_clip)
            patch.observe("torch.nn.utils", "clip_grads_with_norm_", self.on_clip)
        else:
            patch.observe("torch.nn.utils.clip_grad", "clip_grad_norm_", self.on_clip_norm)
            patch.observe("torch.nn.utils", "clip_grad_norm_", self.on_clip_norm)

    # --- data -------------------------------------------------------------------------------------------------------

    def on_pass(self, call: Call) -> Observation:
        now = time.perf_counter()
        yield
        if call.error is None:
            self.passes.begin(call.instance, call.result, now)

    # --- backward ---------------------------------------------------------------------------------------------------

    def before_backward(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Sequence[Backwarded]] | None:
        """What is backwarded, and the losses in it; None when this is no backward pass of a step."""
        closure = self.closure
        if (closure is not None and closure.is_repeating) or (self.record.suppressing and self.record.is_suppressed()):
            return None
        tensors = args[0] if args else kwargs.get("tensors")
        if not isinstance(tensors, torch.Tensor):
            losses = [self._loss(tensor, index, None) for index, tensor in enumerate(tensors or ())]
            return tensors, [loss for loss in losses if loss is not None]
        # The usual stack: here, the patcher's wrapper, Tensor.backward, the program.
        frame: FrameType | None = None
        try:
            usual = frame = sys._getframe(3)
        except ValueError:  # torch.autograd.backward(loss), called by the script itself
            site = None
        else:
            site = self.sites.near.get((id(usual.f_code), usual.f_lasti))
        if site is not None and not self.scaling.in_use:
            # Scalars.read() without the detours, for the tensor that nearly all programs have here.
            value: Any = None
            if type(tensors) is torch.Tensor and tensors.is_cpu and tensors.dim() == 0:
                value = tensors.item()
            if type(value) is not float:
                value = self.scalars.read(tensors)
            return None if value is None else (tensors, ((site, value),))
        loss = self._loss(tensors, 0, frame)
        return None if loss is None else (tensors, [loss])

    def _loss(self, tensor: Any, index: int, usual: FrameType | None) -> Backwarded | None:
        """Where this loss is backwarded, and its value before any scaling; None when it is no loss of a step."""
        frame = self.sites.program_frame(sys._getframe(1))
        if frame is None:
            return None
        site = self.sites.at(frame, index)
        original = None
        if self.scaling.in_use:
            value, original = self.scaling.value_before(tensor)
        else:
            value = self.scalars.read(tensor)
        if value is None:
            return None
        if site.name is None:
            site.name = loss_name(frame, (original, tensor))
        if index == 0 and frame is usual:
            self.sites.near[id(frame.f_code), frame.f_lasti] = site
        return site, value

    def after_backward(self, backwarded: tuple[Any, Sequence[Backwarded]]) -> None:
        record = self.record
        if record.generation != self.generation:
            record.begin()
            self._new_run()
        rounds, count = self.rounds, self.optimizers.count
        for site, value in backwarded[1]:
            if site.checked != count and (site in rounds.counts or not site.is_trained):
                # A second time without a step in between: accumulation, or no optimizer has to do with it.
                tensors = backwarded[0]
                site.is_trained = self.optimizers.train((tensors,) if isinstance(tensors, torch.Tensor) else tensors)
                site.checked = count
            if site.is_trained:
                rounds.backward(site, site.name or DEFAULT, value)
            else:
                self._step_without_optimizer(site, value)

    # --- steps ------------------------------------------------------------------------------------------------------

    def on_optimizer(self, call: Call) -> Observation:
        yield
        if call.error is None:
            self.optimizers.exists(call.instance)

    def before_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if len(args) == 1 and not kwargs:
            if self.closure is not None:  # of a step that raised
                self.closure = None
            return None
        if is_compiling():
            return None
        self.closure = None
        if len(args) > 1 and callable(args[1]):
            self.closure = Closure(args[1])
            return (args[0], self.closure, *args[2:]), kwargs
        if callable(kwargs.get("closure")):
            self.closure = Closure(kwargs["closure"])
            return args, {**kwargs, "closure": self.closure}
        return None

    def on_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        record = self.record
        if is_compiling() or (record.suppressing and record.is_suppressed()):
            return
        known = self.optimizers.known.get(id(optimizer))
        # A program with several optimizers or a device, and a step with anything special to it, go the long way.
        if (
            known is None
            or known.context is not None
            or record.generation != self.generation
            or self.closure is not None
            or self.scaling.in_use
            or self.scalars.has_device
        ):
            self._complete(optimizer)
            return
        now = time.perf_counter()
        rounds = self.rounds
        values, apart = rounds.complete(known, True)
        step = rounds.step
        start, feeding = self.ended, self.passes.feeding
        if start is None or (feeding is not None and (feeding.epoch != self.epoch or feeding.started > start)):
            self._time(values, values, now)
        else:
            values["step_time"] = now - start
        if self.norms:
            self._add_norms(values, step, None)
        groups = optimizer.param_groups
        if len(groups) > 1 or groups[0].get("lr") is not known.only_rate:
            self._add_rates(known.rates.changed(groups) or (), values, step, None)
            rate = groups[0].get("lr")
            known.only_rate = rate if len(groups) == 1 and type(rate) is float else NEVER
        record.metrics(values, step)  # type: ignore[arg-type]
        if apart:
            self._write(apart, step, {"optimizer": type(optimizer).__name__})
        record.step = step
        self.ended = now
        self.completed += 1
        if self.files.open:
            self.files.look_again()

    def _complete(self, optimizer: Optimizer, is_skipped: bool = False) -> None:
        """An optimizer step is over: everything that belongs to it is written now."""
        now = time.perf_counter()
        record = self.record
        known = self.optimizers.known.get(id(optimizer))
        if known is None or record.generation != self.generation:
            record.begin()
            if record.generation != self.generation:
                self._new_run()
            known = self.optimizers.known.get(id(optimizer)) or self._meet(optimizer)
        values, apart = self.rounds.complete(known, known.context is None)
        step = self.rounds.step
        # What belongs to this optimizer, where there are several, and not to the round.
        own: dict[str, Scalar] = values if known.context is None else {}
        self._time(values, own, now)
        closure = self.closure
        if closure is not None:
            self.closure = None
            if closure.evaluations != 1 or known.counts_evaluations:
                known.counts_evaluations = True
                own["closure_evaluations"] = float(closure.evaluations)
        if self.scaling.in_use:
            self.scaling.complete(optimizer, own, is_skipped)
        if self.norms:
            self._add_norms(own, step, known.context)
        self._add_rates(known.rates.changed(optimizer.param_groups) or (), own, step, known.context)
        if values:
            self._write(values, step, None)
        if own is not values and own:
            self._write(own, step, known.context)
        if apart:
            self._write(apart, step, known.context or {"optimizer": type(optimizer).__name__})
        record.step = step
        self.ended = now
        self.completed += 1
        if self.scalars.has_device:
            self.scalars.drain()
        if self.files.open:
            self.files.look_again()

    def _add_norms(self, own: dict[str, Scalar], step: int, context: Context | None) -> None:
        norms, self.norms = self.norms, []
        own["grad_norm"] = norms[0]
        for index, norm in enumerate(norms[1:], 1):
            self._write({"grad_norm": norm}, step, {**(context or {}), "call": str(index)})

    def _add_rates(
        self, rates: Iterable[tuple[Context, Any]], own: dict[str, Scalar], step: int, context: Context | None
    ) -> None:
        for of_group, rate in rates:
            value = rate if isinstance(rate, float) else self.scalars.read(rate)
            if value is None:
                continue
            if of_group == (context or {}):
                own["lr"] = value
            else:
                self._write({"lr": value}, step, of_group)

    def _time(self, values: dict[str, Scalar], own: dict[str, Scalar], now: float) -> None:
        """Step time: since the end of the step before, or since the pass over the data began if that was later."""
        start, feeding = self.ended, self.passes.feeding
        if feeding is not None:
            if start is None or feeding.started > start:
                start = feeding.started
            if feeding.epoch != self.epoch:
                self.epoch = feeding.epoch
                values["epoch"] = float(feeding.epoch)
        if start is not None:
            own["step_time"] = now - start

    def _step_without_optimizer(self, site: CallSite, value: Scalar) -> None:
        now = time.perf_counter()
        rounds, record = self.rounds, self.record
        if not self.is_manual:
            self.is_manual = True
            self._first_step(None, "", sys._getframe(1))
        if rounds.pending:
            # What came before this was known.
            values, sites = rounds.take()
            for earlier in sites:
                rounds.backward_is_step(earlier)
            self._write(values, rounds.step, None)
        before = rounds.step
        step = rounds.backward_is_step(site)
        values = {site.name or DEFAULT: value}
        if step != before:
            self._time(values, values, now)
            self.ended = now
        self._write(values, step, None)
        record.step = step
        if self.scalars.has_device:
            self.scalars.drain()

    def _write(self, values: dict[str, Scalar], step: int, context: Context | None) -> None:
        if not self.scalars.has_device:
            self.record.metrics(values, step, context)  # type: ignore[arg-type]
            return
        time_ns = time.time_ns()
        ready = {name: value for name, value in values.items() if isinstance(value, float)}
        if ready:
            self.record.metrics(ready, step, context, time_ns)
        owed: dict[str, Scalar] = {name: value for name, value in values.items() if not isinstance(value, float)}
        if owed:
            self.scalars.later(
                owed, lambda numbers: self.record.metrics(self.scaling.sift(numbers), step, context, time_ns)
            )

    # --- what is looked up once per run -----------------------------------------------------------------------------

    def _new_run(self) -> None:
        self.generation = self.record.generation
        self.rounds.restart()
        self.optimizers.restart()
        self.scaling.restart()
        self.facts.restart()
        self.is_manual = False
        self.epoch = self.ended = None

    def _meet(self, optimizer: Optimizer) -> Known:
        frame = sys._getframe(1)
        frames = self.sites.program_frames(frame)
        known = self.optimizers.meet(optimizer, frames)
        self._first_step(optimizer, known.label, frame)
        return known

    def _first_step(self, optimizer: Optimizer | None, label: str, frame: FrameType) -> None:
        backwards = max(self.rounds.counts.values(), default=1)
        self.facts.first_step(optimizer, label, self.sites.program_frames(frame))
        if self.passes.feeding is not None:
            self.facts.loader(self.passes.feeding.loader, backwards)

    def finish(self) -> None:
        if self.rounds.pending and self.generation == self.record.generation:
            if self.record.step < 0 and not self.optimizers.any():
                # One backward pass only, and never an optimizer.
                values, _ = self.rounds.take()
                self._write(values, 0, None)
            else:
                _, sites = self.rounds.take()
                where = ", ".join(sorted({f"{site.name}.backward()" for site in sites if isinstance(site, CallSite)}))
                self.record.note("torch", f"no optimizer step followed the last {where}")
        lost = self.scalars.finish(_FINISH_SECONDS)
        if lost:
            self.record.note("torch", f"the device did not hand over the values of {lost} last writes in time")
        self.files.look_again(at_end=True)

    # --- beside the steps -------------------------------------------------------------------------------------------

    def on_scale(self, call: Call) -> Observation:
        yield
        if call.error is None and not self.record.is_suppressed():
            outputs = call.args[1] if len(call.args) > 1 else call.kwargs.get("outputs")
            self.scaling.scaled(call.instance, outputs, call.result)

    def on_scaler_step(self, call: Call) -> Observation:
        scaler = call.instance
        if not scaler.is_enabled():
            return
        optimizer: Any = call.args[1] if len(call.args) > 1 else call.kwargs.get("optimizer")
        before = self.completed
        self.scaling.begin_step(scaler)
        yield
        if call.error is None and self.completed == before and not self.record.is_suppressed():
            # No hook was called: the gradients were not finite. The attempt still has its loss and its number.
            self._complete(optimizer, is_skipped=True)
        self.scaling.end_step()

    def on_clip(self, call: Call) -> Observation:
        yield
        if call.error is None and len(call.args) > 2:
            self._clipped(call.args[1], call.args[2])

    def on_clip_norm(self, call: Call) -> Observation:
        yield
        if call.error is None:
            maximum = call.args[1] if len(call.args) > 1 else call.kwargs.get("max_norm")
            self._clipped(maximum, call.result)

    def _clipped(self, maximum: Any, norm: Any) -> None:
        if self.record.is_suppressed():
            return
        value = self.scalars.read(norm)
        if value is not None and len(self.norms) < _NORMS_LIMIT:
            self.norms.append(value)
        self.facts.clip(maximum)

    def on_autocast(self, call: Call) -> Observation:
        yield
        context = call.instance
        if context._enabled:
            self.facts.autocast(context.fast_dtype)

    def on_save(self, call: Call) -> Observation:
        yield
        if call.error is None and not self.record.is_suppressed():
            target = call.args[1] if len(call.args) > 1 else call.kwargs.get("f")
            self.files.saved(target, self.record.step)


class Closure:
    """The program's closure, counted. What the evaluations after the first backward is not another loss of the step."""

    __slots__ = ("_function", "_is_running", "evaluations")

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._is_running = False
        self.evaluations = 0

    @property
    def is_repeating(self) -> bool:
        return self._is_running and self.evaluations > 1

    def __call__(self) -> Any:
        self.evaluations += 1
        self._is_running = True
        try:
            return self._function()
        finally:
            self._is_running = False
