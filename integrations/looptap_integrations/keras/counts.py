"""How many steps a model has been trained, so that a second fit goes on counting."""

from __future__ import annotations

import weakref
from typing import Any

from looptap.recorder import Recorder
from looptap_integrations.keras.optimizers import batches_seen


class Counts:
    def __init__(self, record: Recorder) -> None:
        self._record = record
        #: Steps by model, and the last run that it was trained in.
        self._steps: weakref.WeakKeyDictionary[Any, tuple[int, int]] = weakref.WeakKeyDictionary()
        #: The model that was trained last.
        self._last: weakref.ref[Any] | None = None

    def next_step(self, model: Any) -> int:
        """The number of the model's next step: in the run that it is being trained in, the next one of the run; otherwise as
        its optimizer counts, which one that was loaded with its optimizer has from the file."""
        _, generation = self._steps.get(model, (0, -1))
        if generation == self._record.generation:
            return self._record.step + 1
        return batches_seen(model)

    def own(self, model: Any) -> int:
        """The number of the model's next step among its own."""
        steps, _ = self._steps.get(model, (0, -1))
        return steps

    def trained(self, model: Any, steps: int) -> None:
        """So many more."""
        self._last = weakref.ref(model)
        self._steps[model] = (self.own(model) + steps, self._record.generation)

    def is_last(self, model: Any) -> bool:
        """Whether this model was trained last, and in the run under way."""
        is_last = self._last is not None and self._last() is model
        return is_last and self._steps[model][1] == self._record.generation
