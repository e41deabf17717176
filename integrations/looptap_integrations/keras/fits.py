"""One call of ``fit`` that is under way."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from looptap.events import Context
from looptap_integrations.keras.batches import Row
from looptap_integrations.keras.graph_losses import GraphLosses
from looptap_integrations.keras.optimizers import batches_seen


class Fit:
    """The list of callbacks that Keras makes for it tells what happens."""

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
        #: What its compiled steps write down, and what reads that once Keras has waited for a batch.
        self.graph: GraphLosses | None = None
        self.settle: Callable[[Row], None] | None = None
        #: When the step before ended, or the epoch began.
        self.ended = time.perf_counter()

    @property
    def step(self) -> int:
        """The last step."""
        return self.first + self.done - 1

    @property
    def is_sure(self) -> bool:
        """Whether :meth:`executed` is: the data may come to its end in the middle of an execution."""
        return self.at_once == 1 or self.batches is not None

    def executed(self) -> int:
        """How many steps the execution that is over had, at most."""
        if self.at_once == 1 or self.batches is None:
            return self.at_once
        return max(1, min(self.at_once, self.batches - self.batch))

    def read_graph(self, is_whole: bool = True) -> None:
        """Record the losses that its steps have written down by now. ``is_whole``: no step has begun that is not over."""
        if self.graph is not None and self.done and not self.graph.missing:
            self.graph.read(self.first, self.done, self.context, is_whole)
