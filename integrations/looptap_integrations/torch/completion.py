"""The end of a step off the shortest path: several optimizers, a closure, a device, learning rates that change, epochs.

:meth:`Completion.complete` is the long way of :meth:`looptap_integrations.torch.loop.Loop.on_step`; both write the same."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from types import FrameType
from typing import TYPE_CHECKING, Any

from torch.optim import Optimizer

from looptap.events import Context
from looptap.places import are_two_phases, place_of
from looptap_integrations.torch.device_times import EVERY
from looptap_integrations.torch.loss_names import DEFAULT, CallSite
from looptap_integrations.torch.optimizers import Known
from looptap_integrations.torch.scalars import Scalar
from looptap_integrations.torch.times import BACKWARD, DATA, FORWARD, OPTIMIZER, PHASES_OF_A_STEP

if TYPE_CHECKING:
    from looptap_integrations.torch.loop import Loop

#: Of one step: more gradient norms than this are not told apart.
NORMS_LIMIT = 16


class Completion:
    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def complete(self, optimizer: Optimizer, is_skipped: bool = False, is_late: bool = False) -> None:
        """An optimizer step is over: everything that belongs to it is written now. ``is_late``: nobody knows for how long."""
        loop = self._loop
        if loop.unseen is not None:
            loop.settle()
        if is_late:
            loop.times.last = time.perf_counter()
        else:
            loop.times.into_optimizer()
        now = loop.times.last
        if loop.marks is not None and not is_late:
            loop.marks.mark(OPTIMIZER)
        record = loop.record
        known = loop.optimizers.known.get(id(optimizer))
        if known is None or record.generation != loop.generation:
            record.begin()
            if record.generation != loop.generation:
                loop.new_run()
            known = loop.optimizers.known.get(id(optimizer)) or loop.meet(optimizer)
        if record.trainings != loop.trainings:  # a framework on top says where the steps are
            loop.trainings = record.trainings
            loop.rounds.move(record.step)
        is_new_phase = loop.rounds.may_join(known) and self._is_new_phase(known, sys._getframe(1))
        before = loop.rounds.step
        values, apart = loop.rounds.complete(known, known.context is None, is_new_phase)
        step = loop.rounds.step
        # What belongs to this optimizer, where there are several, and not to the round.
        own: dict[str, Scalar] = values if known.context is None else {}
        self.time(values, own, now)
        if is_late:
            for phase in PHASES_OF_A_STEP:
                own.pop(phase, None)
        elif step == before:
            # The batch and the passes that it shares with the optimizer before it were timed there.
            for phase in (DATA, FORWARD, BACKWARD):
                if own.get(phase) == 0.0:
                    del own[phase]
        closure = loop.closure
        if closure is not None:
            loop.closure, loop.is_plain = None, not loop.scaling.in_use
            if closure.evaluations != 1 or known.counts_evaluations:
                known.counts_evaluations = True
                own["closure_evaluations"] = float(closure.evaluations)
        if loop.scaling.in_use:
            loop.scaling.complete(optimizer, own, is_skipped)
        if loop.norms:
            self.add_norms(own, step, known.context)
        groups = optimizer.param_groups
        rates = known.late_rates(groups, loop.scalars.read) if is_late else known.rates.changed(groups)
        self.add_rates(rates or (), own, step, known.context)
        if values:
            self.write(values, step, None)
        if own is not values and own:
            self.write(own, step, known.context)
        if apart:
            self.write(apart, step, known.context or {"optimizer": type(optimizer).__name__})
        record.step = step
        loop.ended = now
        loop.completed += 1
        if loop.scalars.has_device:
            self._ask_device(step)
        if loop.files.open:
            loop.files.look_again()

    def _ask_device(self, step: int) -> None:
        """For what it owes us; now and then it is to time the next step."""
        loop = self._loop
        loop.scalars.drain()
        times = loop.device_times
        if loop.marks is not None:
            times.end(step)
            loop.marks = None
        times.drain()
        if (step + 1) % EVERY == 0:
            loop.marks = times.begin()

    def _is_new_phase(self, known: Known, frame: FrameType) -> bool:
        """Whether this optimizer steps where it does not belong to the iteration of the one before it."""
        loop = self._loop
        last = loop.rounds.last
        known.place = place_of(loop.sites.program_frames(frame))
        return isinstance(last, Known) and are_two_phases(last.place, known.place)

    def add_norms(self, own: dict[str, Scalar], step: int, context: Context | None) -> None:
        """The gradient norms since the last step: the first to its values, others by the number of the call."""
        loop = self._loop
        norms, loop.norms = loop.norms, []
        own["grad_norm"] = norms[0]
        for index, norm in enumerate(norms[1:], 1):
            self.write({"grad_norm": norm}, step, {**(context or {}), "call": str(index)})

    def add_rates(
        self, rates: Iterable[tuple[Context, Any]], own: dict[str, Scalar], step: int, context: Context | None
    ) -> None:
        """The learning rates of groups: that of this context to the values of the step, others to series of their own."""
        loop = self._loop
        if loop.record.covers("lr"):
            return
        for of_group, rate in rates:
            # A schedule made with numpy leaves numpy's floats.
            value = float(rate) if isinstance(rate, float) else loop.scalars.read(rate)
            if value is None:
                continue
            if of_group == (context or {}):
                own["lr"] = value
            else:
                self.write({"lr": value}, step, of_group)

    def time(self, values: dict[str, Scalar], own: dict[str, Scalar], now: float) -> None:
        """Step time: since the end of the step before, or since the pass over the data began if that was later."""
        loop = self._loop
        start, feeding = loop.ended, loop.passes.feeding
        if feeding is not None:
            feeding.fetched, loop.trained_on = 0, id(feeding.loader)
            loop.datasets.trains(feeding)
            loop.validation.trains(feeding)
            if start is None or feeding.started > start:
                start = feeding.started
            if feeding.epoch != loop.epoch and not loop.record.covers("epoch"):
                self.end_epoch()
                loop.epoch = feeding.epoch
                values["epoch"] = float(feeding.epoch)
        if start is not None and not loop.record.covers("time"):
            own["step_time"] = now - start
            loop.times.of_step(own, now - start, feeding is not None)
        else:
            loop.times.skip()

    def end_epoch(self) -> None:
        """The times of the epoch whose last step is over."""
        loop = self._loop
        sums = loop.times.of_epoch()
        if sums and loop.record.step >= 0:
            loop.record.metrics(sums, loop.record.step)

    def replayed(self, site: CallSite, tensor: Any) -> None:
        """A graph was replayed in which this loss is backwarded."""
        loop = self._loop
        value = loop.scalars.read(tensor)
        if value is not None and not loop.record.covers("loss"):
            loop.rounds.backward(site, site.name or DEFAULT, value)

    def without_optimizer(self, site: CallSite, value: Scalar) -> None:
        """A backward pass is over that no optimizer descends: the step is its own."""
        loop = self._loop
        now = loop.times.last
        rounds, record = loop.rounds, loop.record
        if loop.validation.is_open:
            loop.validation.end()
        if not loop.is_manual:
            loop.is_manual = True
            loop.first_step(None, "", sys._getframe(1))
        if rounds.pending:
            # What came before this was known.
            values, sites = rounds.take()
            for earlier in sites:
                rounds.backward_is_step(earlier)
            self.write(values, rounds.step, None)
        before = rounds.step
        step = rounds.backward_is_step(site)
        values = {site.name or DEFAULT: value}
        if step != before:
            self.time(values, values, now)
            loop.ended = now
        self.write(values, step, None)
        record.step = step
        if loop.scalars.has_device:
            loop.scalars.drain()

    def write(self, values: dict[str, Scalar], step: int, context: Context | None) -> None:
        """Record numbers at once, and those that a device owes us when they are here, with the time of now."""
        loop = self._loop
        if not loop.scalars.has_device:
            loop.record.metrics(values, step, context)  # type: ignore[arg-type]
            return
        time_ns = time.time_ns()
        ready = {name: value for name, value in values.items() if isinstance(value, float)}
        if ready:
            loop.record.metrics(ready, step, context, time_ns)
        owed: dict[str, Scalar] = {name: value for name, value in values.items() if not isinstance(value, float)}
        if owed:
            loop.scalars.later(
                owed, lambda numbers: loop.record.metrics(loop.scaling.sift(numbers), step, context, time_ns)
            )
