"""The training loop: what its backward passes and optimizer steps leave behind.

:meth:`Loop.before_backward` and :meth:`Loop.on_step` are the path of every step and are written for speed: each first decides
whether this is the plain case (one optimizer, losses on the CPU, nothing special going on) and then does it in one piece, because
between two training steps a function call costs about a microsecond. Everything else goes the long way. What a step is, is in
:mod:`~looptap.rounds`; what is looked up once per run, in :mod:`~looptap_integrations.torch.facts`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch
from torch.compiler import is_compiling, is_dynamo_compiling
from torch.optim import Optimizer

from looptap.frames import outward
from looptap.recorder import Recorder
from looptap.rounds import Rounds
from looptap_integrations.torch.backwards import Backwarded, Backwards
from looptap_integrations.torch.closures import Closure
from looptap_integrations.torch.completion import NORMS_LIMIT, Completion
from looptap_integrations.torch.datasets import Datasets
from looptap_integrations.torch.device_times import DeviceTimes
from looptap_integrations.torch.facts import Facts
from looptap_integrations.torch.graphs import Graphs
from looptap_integrations.torch.loss_names import DEFAULT, CallSite, CallSites
from looptap_integrations.torch.model_files import ModelFiles
from looptap_integrations.torch.optimizers import NEVER, Known, Optimizers
from looptap_integrations.torch.passes import Passes
from looptap_integrations.torch.scalars import Scalar, Scalars
from looptap_integrations.torch.scaling import Scaling
from looptap_integrations.torch.times import BACKWARD, DATA, OTHER, Times
from looptap_integrations.torch.uncompiled import leave_to_the_interpreter
from looptap_integrations.torch.validation import Validation

if TYPE_CHECKING:
    from looptap_integrations.torch.tracing import Tracing

#: How long the end of a run waits for values that a device still owes.
_FINISH_SECONDS = 1.0

_Tensor = torch.Tensor
_frame_at_depth = sys._getframe
_now = time.perf_counter


class Loop:
    def __init__(self, record: Recorder) -> None:
        self.record = record
        self.rounds: Rounds[Scalar] = Rounds()
        self.sites = CallSites()
        self.near = self.sites.near
        self.scalars = Scalars(drop=record.drop, note=lambda sentence: record.note("torch", sentence))
        self.optimizers = Optimizers()
        self.passes = Passes()
        self.datasets = Datasets(record, lambda: bool(self.rounds.pending))
        self.times = Times()
        self.device_times = DeviceTimes(self.scalars, lambda values, step, at: record.metrics(values, step, None, at))
        #: The same while it looks at the step under way.
        self.marks: DeviceTimes | None = None
        self.graphs = Graphs(self)
        self.scaling = Scaling(self.scalars)
        self.facts = Facts(record)
        self.files = ModelFiles(record, self.settle)
        #: What wants to hear of every step for a while.
        self.tracing: Tracing | None = None
        #: The recorder's generation that this state belongs to.
        self.generation = -1
        #: False while a closure runs and from the first use of a GradScaler on: every backward pass goes the long way.
        self.is_plain = True
        #: True once losses are written without any optimizer.
        self.is_manual = False
        #: An optimizer that compiled code has stepped since, which is to be written before anything else.
        self.unseen: Optimizer | None = None
        #: Gradient norms since the last step, in the order of the program's calls.
        self.norms: list[Scalar] = []
        self.closure: Closure | None = None
        #: Whether an optimizer is in its ``step()``, or was when that raised.
        self.is_stepping = False
        #: How many calls of ``super().step()`` are under way inside of that one, in classes that override it.
        self.nested = 0
        #: When the last step ended.
        self.ended: float | None = None
        self.epoch: int | None = None
        #: Id of the loader that the last step took its batch from.
        self.trained_on: int | None = None
        self.completed = 0
        self.trainings = record.trainings
        self.backwards = Backwards(self)
        self.completion = Completion(self)
        self.validation = Validation(record, self.scalars, self.passes, self.rounds, self.sites)
        record.is_step_under_way = self.is_step_under_way
        record.known_at = self.known_at
        record.split = self.validation.split
        record.take_from_device = self.take_from_device

    # --- backward ---------------------------------------------------------------------------------------------------

    def before_backward(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Backwarded | CallSite | None:
        """None when this is no backward pass of a step; a call site when its loss has been taken in already."""
        record = self.record
        if self.is_plain and record.generation == self.generation and not record.unusual and args:
            tensor = args[0]
            # A loss with a gradient given for it may have any shape.
            if type(tensor) is _Tensor and tensor.is_cpu and (len(args) < 2 or args[1] is None):
                try:
                    # The usual stack: here, the patcher's wrapper, Tensor.backward, the program.
                    frame = _frame_at_depth(3)
                    site = self.near[frame.f_lasti]
                    rounds = self.rounds
                    counts = rounds.counts
                    count = counts.get(site, 0)
                    if site.code is frame.f_code and (count == 0 or site.checked == self.optimizers.count):
                        value = tensor.item()
                        if type(value) is float:
                            pending, name = rounds.pending, site.name or DEFAULT
                            site.before = before = pending.get(name)
                            pending[name] = value if before is None else before + value
                            counts[site] = count + 1
                            times = self.times
                            time_now = _now()
                            times.forward += time_now - times.last
                            times.last = time_now
                            return site
                except (KeyError, ValueError, RuntimeError):
                    pass  # a new place, no such frame, a tensor without one number
        elif record.covers("loss") and record.covers("time"):
            return None  # who leads asks nothing of us
        return self.backwards.take(args, kwargs)

    def after_backward(self, token: Backwarded | CallSite) -> None:
        times = self.times
        time_now = _now()
        times.backward += time_now - times.last
        times.last = time_now
        if self.marks is not None:
            self.marks.mark(BACKWARD)
        if type(token) is Backwarded:
            for site, value in token.steps:
                self.completion.without_optimizer(site, value)

    def failed_backward(self, token: Backwarded | CallSite) -> None:
        """What was backwarded did not get there: its loss is none of a step."""
        self.times.into_backward()
        for site in [token] if isinstance(token, CallSite) else reversed(token.taken):
            self.rounds.take_back(site, site.name or DEFAULT, site.before)

    # --- steps ------------------------------------------------------------------------------------------------------

    def begin_pass(self, loader: Any, iterator: Any, started: float) -> None:
        self.passes.begin(loader, iterator, started)
        self.times.begin_pass(started, torch.is_grad_enabled())

    def before_next(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...] | None:
        if self.record.unusual and self.record.covers("time"):
            return None
        self.times.last = _now()
        return args

    def after_next(self, args: tuple[Any, ...]) -> None:
        passes, times = self.passes, self.times
        if id(args[0]) == passes.fed_by:
            passes.feeding.fetched += 1  # type: ignore[union-attr]
        elif passes.fed(args[0]):
            times.is_feeding = torch.is_grad_enabled()
            began = _now()
            self.datasets.switched(passes.feeding)
            times.last += _now() - began  # it is nobody's time of the program
        time_now = _now()
        if times.is_feeding:
            times.data += time_now - times.last
        times.last = time_now
        if self.marks is not None:
            self.marks.mark(DATA if times.is_feeding else OTHER)

    def failed_next(self, args: tuple[Any, ...]) -> None:
        """The loader has handed out all there was."""
        self.validation.ended(args[0])

    def known_at(self, step: int) -> dict[str, float]:
        """What is on record of the last step: for those who are told the same again."""
        if step != self.rounds.step or self.record.generation != self.generation:
            return {}
        known: dict[str, float] = {}
        for name, value in self.rounds.names.items():
            if isinstance(value, float):
                known[name] = value
            elif value.is_settled and value.number is not None:
                known[name] = value.number
        return known

    def take_from_device(self, values: Mapping[str, Any], emit: Callable[[dict[str, float]], None]) -> Collection[str]:
        """Of values that somebody logs, those on a device: their numbers follow when they are here."""
        readings = {
            key: self.scalars.read(value)
            for key, value in values.items()
            if isinstance(value, torch.Tensor) and not value.is_cpu
        }
        owed = {key: reading for key, reading in readings.items() if reading is not None}
        if owed:
            self.scalars.later(owed, emit)
        if len(owed) < len(readings):
            self.record.note("values", f"no number is to be had of {', '.join(readings.keys() - owed.keys())}")
        return readings.keys()

    def is_step_under_way(self) -> bool:
        """A loss waits for its step, or the loader of the training has handed out a batch since the last one."""
        feeding = self.passes.feeding
        return bool(self.rounds.pending) or (
            feeding is not None and feeding.fetched > 0 and id(feeding.loader) == self.trained_on
        )

    def before_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if len(args) == 1 and not kwargs:
            if is_dynamo_compiling() or (self.is_stepping and self._is_nested(optimizer)):
                return None
            self.is_stepping = True
            self.times.last = _now()
            if self.marks is not None:
                self.marks.mark(OTHER)
            if self.closure is not None:  # of a step that raised
                self.closure, self.is_plain = None, not self.scaling.in_use
            return None
        if is_compiling() or (self.is_stepping and self._is_nested(optimizer)):
            return None
        self.is_stepping = True
        self.times.last = _now()
        self.closure, self.is_plain = None, not self.scaling.in_use
        if len(args) > 1 and callable(args[1]):
            self.closure, self.is_plain = Closure(args[1], self.times), False
            return (args[0], self.closure, *args[2:]), kwargs
        if callable(kwargs.get("closure")):
            self.closure, self.is_plain = Closure(kwargs["closure"], self.times), False
            return args, {**kwargs, "closure": self.closure}
        return None

    def on_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if is_dynamo_compiling():  # of the two questions the one that asks nobody else
            # These assignments the compiler traces, and its code makes them at every step: no hook is called there any more.
            self.unseen = optimizer
            self.is_plain = False
            return
        if self.nested:
            self.nested -= 1
            return
        self.is_stepping = False
        if self.validation.is_open:
            self.validation.end()
        record, rounds, scalars = self.record, self.rounds, self.scalars
        known = self.optimizers.known.get(id(optimizer))
        if (
            known is None
            or rounds.alone is not known
            or known.context is not None
            or record.generation != self.generation
            or not self.is_plain
            or scalars.has_device
            or record.unusual
        ):
            if not (is_compiling() or record.is_suppressed()):
                self.completion.complete(optimizer)
            elif self.graphs.under_capture is not None:
                self.graphs.step(optimizer)
            return
        now, times = _now(), self.times
        times.optimizer += now - times.last
        times.last = now
        # Rounds.complete(), for an optimizer that is alone in the round before.
        values, rounds.pending = rounds.pending, {}
        rounds.written, rounds.counts = rounds.counts, {}
        rounds.names = values
        rounds.step = step = rounds.step + 1
        start, feeding = self.ended, self.passes.feeding
        if start is None or (feeding is not None and (feeding.epoch != self.epoch or feeding.started > start)):
            self.completion.time(values, values, now)
        else:
            values["step_time"] = duration = now - start
            times.of_step(values, duration, feeding is not None)
        if feeding is not None:
            feeding.fetched = 0
        if self.norms:
            self.completion.add_norms(values, step, None)
        groups = optimizer.param_groups
        if len(groups) != 1 or groups[0].get("lr") is not known.only_rate:
            self.completion.add_rates(known.rates.changed(groups) or (), values, step, None)
            rate = groups[0].get("lr") if len(groups) == 1 else None
            known.only_rate = rate if type(rate) is float else NEVER
        record.metrics(values, step)  # type: ignore[arg-type]
        record.step = step
        self.ended = now
        self.completed += 1
        if self.files.open:
            self.files.look_again()
        if self.tracing is not None:
            self.tracing.on_step()

    def _is_nested(self, optimizer: Optimizer) -> bool:
        """Whether this is ``super().step()``: PyTorch calls the hooks around each of the two. Looked for on the stack, because a
        step that raised leaves no other trace."""
        frame = sys._getframe(3)  # of PyTorch's wrapper around step()
        wrapper, count = frame.f_code, 0
        for outer in outward(frame.f_back):
            if outer.f_code is wrapper and outer.f_locals["args"][0] is optimizer:
                count += 1
        self.nested = count
        return count > 0

    def settle(self) -> None:
        """Write the step that compiled code has made, if there was one: the last moment before something new begins."""
        optimizer, self.unseen = self.unseen, None
        if optimizer is not None:
            self.is_plain = self.closure is None and not self.scaling.in_use
            if not self.record.is_suppressed():
                self.completion.complete(optimizer, is_late=True)

    # --- what is looked up once per run -----------------------------------------------------------------------------

    def new_run(self) -> None:
        leave_to_the_interpreter()  # what has been imported since
        self.generation = self.record.generation
        self.rounds.restart()
        self.scalars.restart()
        self.device_times.restart()
        self.marks = None
        self.optimizers.restart()
        self.scaling.restart()
        self.facts.restart()
        self.times.restart()
        self.is_manual = False
        self.epoch = self.ended = None

    def meet(self, optimizer: Optimizer) -> Known:
        frame = sys._getframe(1)
        frames = self.sites.program_frames(frame)
        known = self.optimizers.meet(optimizer, frames)
        self.first_step(optimizer, known.label, frame)
        return known

    def first_step(self, optimizer: Optimizer | None, label: str, frame: FrameType) -> None:
        backwards = max(self.rounds.counts.values(), default=1)
        self.facts.first_step(optimizer, label, self.sites.program_frames(frame))
        if self.passes.feeding is not None:
            loader = self.passes.feeding.loader
            self.facts.loader(loader, self.datasets.length(loader), backwards)

    def finish(self) -> None:
        self.settle()
        self.validation.end(is_step=False)
        if self.epoch is not None and self.generation == self.record.generation:
            self.completion.end_epoch()
        if self.rounds.pending and self.generation == self.record.generation:
            if self.record.step < 0 and not self.optimizers.any():
                # One backward pass only, and never an optimizer.
                values, _ = self.rounds.take()
                self.completion.write(values, 0, None)
            else:
                _, sites = self.rounds.take()
                where = ", ".join(sorted({f"{site.name}.backward()" for site in sites if isinstance(site, CallSite)}))
                self.record.note("torch", f"no optimizer step followed the last {where}")
        lost = self.scalars.finish(_FINISH_SECONDS)
        self.device_times.drain()
        if lost:
            self.record.note("torch", f"the device did not hand over the last {lost} values in time")
        # With what the device has just handed over: the last pass is told when its means are here.
        self.validation.references.finish()
        self.files.look_again(at_end=True)
        self.datasets.finish()

    # --- beside the steps -------------------------------------------------------------------------------------------

    def clipped(self, maximum: Any, norm: Any) -> None:
        """The program has computed the norm of its gradients."""
        if self.record.is_suppressed() or self.record.covers("grad_norm"):
            return
        value = self.scalars.read(norm)
        if value is not None and len(self.norms) < NORMS_LIMIT:
            self.norms.append(value)
        self.facts.clip(maximum)
