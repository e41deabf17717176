"""``evaluate`` and ``predict``: values of a pass over other data, at the training step before it.

The evaluation that ``fit`` makes itself is told at the end of its epoch (``val_loss``). One that the program asks for is
``test/loss``, or what the program calls the data: ``validation/loss`` of ``evaluate(x_val, y_val)``.
"""

from __future__ import annotations

import sys
import threading
import time
from types import FrameType
from typing import Any

from looptap.frames import outward, package_of, variables_in_reach
from looptap.patching import Call, Observation
from looptap.plain import is_number
from looptap.recorder import Recorder
from looptap.splits import PREDICT, TEST, TRAIN, VALIDATION, split_in
from looptap_integrations.keras.calls import Calls
from looptap_integrations.keras.datasets import Datasets
from looptap_integrations.keras.references import Predictions

#: Who may stand between the program and a method of Keras.
BETWEEN = ("keras", "tf_keras", "looptap", "looptap_integrations", "contextlib")


class Evaluations:
    def __init__(self, record: Recorder, calls: Calls, datasets: Datasets) -> None:
        self._record = record
        self._calls = calls
        self._datasets = datasets
        self.predictions = Predictions(record, calls)
        self._here = threading.local()

    def on_evaluate(self, call: Call) -> Observation:
        if self._is_of_fit(call):
            yield from self.predictions.evaluated(call, call.instance, VALIDATION)
            return
        record, splits = self._record, self._splits()
        data = call.args[1] if len(call.args) > 1 else call.kwargs.get("x")
        split = _split(data, sys._getframe(1)) or TEST
        splits.append(split)
        self._datasets.evaluated(call, split)
        before, record.split = record.split, lambda: None if split == TRAIN else split
        with record.cover("loss", "validation", "data"):
            yield from self.predictions.evaluated(call, call.instance, split)
        record.split = before
        splits.pop()

    def on_test_begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        fit = self._calls.fit_of(args[0])
        if fit is not None:
            fit.is_validating = True

    def on_test_end(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        fit = self._calls.fit_of(args[0])
        if fit is not None:
            fit.is_validating = False
            return
        logs = args[1] if len(args) > 1 else kwargs.get("logs")
        splits = self._splits()
        split = splits[-1] if splits else TEST
        values = {f"{split}/{name}": value for name, value in (logs or {}).items() if is_number(value)}
        if values:
            step = self._record.step
            self._record.log_metrics(values, step if step >= 0 else None, source="keras")

    def on_predict(self, call: Call) -> Observation:
        record = self._record
        began = time.perf_counter()
        with record.cover("loss", "validation", "data"):
            yield
        # Predicting alone is no run.
        if call.error is None and record.is_under_way() and not record.is_suppressed():
            values = {"predict/time": time.perf_counter() - began}
            record.log_metrics(values, record.step if record.step >= 0 else None, source="keras")
            data, frame = call.args[1] if len(call.args) > 1 else call.kwargs.get("x"), sys._getframe(1)
            self.predictions.predicted(call, lambda: _split(data, frame) or PREDICT)

    def _is_of_fit(self, call: Call) -> bool:
        # evaluate(x, y, batch_size, verbose, sample_weight, steps, callbacks)
        callbacks = call.args[7] if len(call.args) > 7 else call.kwargs.get("callbacks")
        return self._calls.fit_of(callbacks) is not None

    def _splits(self) -> list[str]:
        """Of the evaluations under way in this thread."""
        splits: list[str] | None = getattr(self._here, "splits", None)
        if splits is None:
            splits = self._here.splits = []
        return splits


def _split(data: Any, frame: FrameType | None) -> str | None:
    """What the program calls the data that it evaluates on; None where that says nothing."""
    for outer in outward(frame):
        if package_of(outer) not in BETWEEN:
            for name, value in variables_in_reach(outer):
                if value is data and value is not None and (split := split_in(name)):
                    return split
            break
    return None
