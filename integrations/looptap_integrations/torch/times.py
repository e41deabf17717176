"""Where the time of a step goes, by the host's clock: waiting for data, forward, backward, optimizer, other.

Marks lie where the hooks are anyway; each ends a stretch of time, and its kind says which phase that was::

    next(loader) begins   other        backward begins    forward      optimizer begins   other
    next(loader) ends     data         backward ends      backward     optimizer ends     optimizer

So *forward* is everything from the batch (without a ``DataLoader``: from the end of the step before) to the backward pass, which is
the model and the loss, and whatever the program does there besides. *Other* is what the step took beyond the four. On a device that
works on its own the host's clock shows when work was handed over, not when it was done.
"""

from __future__ import annotations

import time
from typing import Any

PHASES = ("data", "forward", "backward", "optimizer")
DATA, FORWARD, BACKWARD, OPTIMIZER, OTHER = (f"time.{phase}" for phase in (*PHASES, "other"))
PHASES_OF_A_STEP = (DATA, FORWARD, BACKWARD, OPTIMIZER, OTHER)

now = time.perf_counter


class Times:
    """Seconds by phase, in sums that only grow; a step is the difference of two states."""

    __slots__ = ("backward", "before", "data", "epoch", "forward", "is_feeding", "last", "optimizer", "other", "steps")

    def __init__(self) -> None:
        #: When the stretch of time under way began.
        self.last = now()
        self.data = self.forward = self.backward = self.optimizer = self.other = 0.0
        #: The four sums when the last step ended.
        self.before = (0.0, 0.0, 0.0, 0.0)
        #: All five sums when the epoch began, and the steps since then.
        self.epoch = (0.0, 0.0, 0.0, 0.0, 0.0)
        self.steps = 0
        #: Whether the loader that hands out batches now does so for the training. A validation in between is *other*.
        self.is_feeding = True

    def begin_pass(self, started: float, is_training: bool) -> None:
        """A pass over the data began at ``started``; its iterator, with workers perhaps, has been made by now."""
        self.last = time_now = now()
        self.is_feeding = is_training
        if is_training:
            self.skip()
            self.data += time_now - started

    def fed(self) -> None:
        """The batch that the program waited for is there."""
        time_now = now()
        if self.is_feeding:
            self.data += time_now - self.last
        self.last = time_now

    def into_forward(self) -> None:
        time_now = now()
        self.forward += time_now - self.last
        self.last = time_now

    def into_backward(self) -> None:
        time_now = now()
        self.backward += time_now - self.last
        self.last = time_now

    def into_optimizer(self) -> None:
        time_now = now()
        self.optimizer += time_now - self.last
        self.last = time_now

    def of_step(self, values: dict[str, Any], step_time: float, has_loader: bool) -> None:
        """Add the phases of the step that is over, and took ``step_time`` seconds, to its values. Nobody can tell how long it
        waited for data where no loader was seen."""
        data, forward, backward, optimizer = self.before
        self.before = sums = (self.data, self.forward, self.backward, self.optimizer)
        data = sums[0] - data
        if has_loader:
            values[DATA] = data
        values[FORWARD] = forward = sums[1] - forward
        values[BACKWARD] = backward = sums[2] - backward
        values[OPTIMIZER] = optimizer = sums[3] - optimizer
        other = step_time - data - forward - backward - optimizer
        values[OTHER] = other = other if other > 0.0 else 0.0
        self.other += other
        self.steps += 1

    def of_epoch(self) -> dict[str, float]:
        """Seconds by phase since the epoch began, for all of its steps; empty when it had none. The next one begins."""
        begun, steps = self.epoch, self.steps
        self.epoch = sums = (*self.before, self.other)
        self.steps = 0
        if not steps:
            return {}
        # An epoch is a pass of a loader, so there is time for data.
        return {
            f"epoch_{key}": after - before
            for key, before, after in zip((DATA, FORWARD, BACKWARD, OPTIMIZER, OTHER), begun, sums, strict=True)
        }

    def restart(self) -> None:
        """A new run, whose first step has begun already."""
        self.epoch = (*self.before, self.other)
        self.steps = 0

    def skip(self) -> None:
        """What there was since the last step belongs to none."""
        self.before = (self.data, self.forward, self.backward, self.optimizer)
