"""One call of ``fit`` that is under way."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from looptap.events import Context
from looptap_integrations.keras.batches import Row
from looptap_integrations.keras.compiled_steps import CompiledSteps
from looptap_integrations.keras.optimizers import batches_seen


class Fit:
    """The list of callbacks that Keras makes for it tells what happens."""

    #: Not a dict: what the path of every batch looks up lies together in memory.
    __slots__ = (
        "at_once",
        "batch",
        "batches",
        "before",
        "began",
        "context",
        "done",
        "ended",
        "epoch",
        "first",
        "graph",
        "has_losses",
        "here",
        "is_async",
        "is_fed",
        "is_in_step",
        "is_sure",
        "is_timed",
        "is_validating",
        "losses",
        "model",
        "names",
        "settle",
        "settle_at",
        "settle_by",
        "told",
        "until_over",
        "waited",
    )

    def __init__(self, model: Any, first: int, context: Context | None) -> None:
        self.model = model
        #: The number of its first step.
        self.first = first
        #: None while it leads the training of the run.
        self.context = context
        self.until_over = ExitStack()
        #: Steps so far.
        self.done = 0
        #: The epoch that has begun, until it is on record.
        self.epoch: int | None = None
        #: The batches of an epoch, where they are known, and how many of them are executed at once.
        self.batches: int | None = None
        self.at_once: int = getattr(model, "steps_per_execution", 1)
        #: The batches that its optimizer had seen before it, where several steps are executed at once.
        self.before = batches_seen(model) if self.at_once > 1 else 0
        #: The number that Keras gives to the batch under way, or to the first one of several that are executed at once.
        self.batch = 0
        self.is_in_step = False
        self.is_validating = False
        #: The losses of the step under way, by name: numbers, or tensors that are still to be waited for.
        self.losses: dict[str, Any] = {}
        self.has_losses = False
        #: What a loss is recorded as, by the id of its metric, which is kept; None for metrics that are none of the model's losses.
        self.names: dict[int, tuple[Any, str | None]] = {}
        #: What its compiled steps write down, and what reads that once Keras has waited for a batch: at this step or this time.
        self.graph: CompiledSteps | None = None
        self.settle: Callable[[Row], None] | None = None
        self.settle_at = 0
        self.settle_by = 0.0
        #: When the step before ended, or the epoch began; when Keras had waited for its values, where it does; when the callbacks
        #: had been told of it; when the step under way began.
        self.ended = self.here = self.told = self.began = time.perf_counter()
        #: Whether Keras converts the values of its steps in a thread of its own.
        self.is_async = False
        #: Whether it is Keras' own, whose parts are known, and whether so is how long it waits for data: those seconds of the step
        #: under way that are in the train function.
        self.is_timed = self.is_fed = False
        self.waited = 0.0
        #: Whether :meth:`executed` is: the data may come to its end in the middle of an execution.
        self.is_sure = self.at_once == 1

    @property
    def step(self) -> int:
        """The last step."""
        return self.first + self.done - 1

    def executed(self) -> int:
        """How many steps the execution that is over had, at most."""
        if self.at_once == 1 or self.batches is None:
            return self.at_once
        return max(1, min(self.at_once, self.batches - self.batch))

    def read_graph(self, is_whole: bool = True) -> None:
        """Record what its steps have written down by now. ``is_whole``: no step has begun that is not over."""
        if self.graph is not None and self.done and not self.graph.missing:
            self.graph.read(self.first, self.done, self.context, is_whole)
