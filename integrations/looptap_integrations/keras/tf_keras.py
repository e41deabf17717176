"""tf-keras, which is Keras 2: the same as Keras 3 on TensorFlow, told by its own list of callbacks.

That list is handed tensors, which Keras 2 turns into numbers for the program's callbacks only. On the CPU they are here when it
gets them, so they are read at once. On another device reading them would wait: the values of batches are left out there, and those
of epochs, for which Keras waits itself, are recorded.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from looptap.events import Context
from looptap.integration import Capture
from looptap.patching import Patcher
from looptap.recorder import Recorder
from looptap_integrations.keras import datasets, decisions, facts, model_files, references
from looptap_integrations.keras.fits import Fit
from looptap_integrations.keras.integration import KerasIntegration
from looptap_integrations.keras.losses import Losses
from looptap_integrations.keras.optimizers import optimizers_of

CAPTURES = (
    Capture(
        "loss, accuracy, … of every batch, which are running means of the epoch; epoch_loss, …, val_loss, …; test/loss, …;"
        " step_time, epoch",
        "tf_keras' CallbackList",
        "each batch, each epoch",
    ),
    Capture("lr of every optimizer when it changes", "the optimizer's variable", "each batch, on the CPU"),
    Capture(
        "loss, … of train_on_batch, as Keras returns them; lr when it changes, on the CPU",
        "Model.train_on_batch",
        "each call",
    ),
    *references.CAPTURES,
    *facts.CAPTURES,
    *decisions.CAPTURES,
    *model_files.CAPTURES,
    *datasets.CAPTURES,
)
NOT_CAPTURED = (
    "batch_loss; values of batches and lr where TensorFlow computes on another device than the CPU: reading them would wait",
    "lr of a schedule within steps_per_execution: the last one of an execution is recorded; and of optimizers of tf_keras.legacy",
    *references.NOT_CAPTURED,
    *model_files.NOT_CAPTURED,
    *datasets.NOT_CAPTURED,
)


def numbers(logs: Any, is_waited_for: bool = False) -> dict[str, float]:
    """Of what a list of callbacks is handed, the single numbers that are here. ``is_waited_for``: all of them are."""
    if not isinstance(logs, Mapping):
        return {}
    found = ((str(name), _number(value, is_waited_for)) for name, value in logs.items())
    return {name: value for name, value in found if value is not None}


def _number(value: Any, is_waited_for: bool) -> float | None:
    if isinstance(value, (int, float)):
        return float(value)
    if tuple(getattr(value, "shape", (0,))) != ():
        return None
    return float(value) if is_waited_for or is_here(value) else None


def is_here(value: Any) -> bool:
    """Whether a tensor or a variable lies in the memory of the host."""
    device = str(getattr(value, "device", ""))
    return not device or "cpu" in device.lower()


class Rates:
    """Learning rates of the fit that leads; in the place of :class:`looptap_integrations.keras.rates.Rates`."""

    def __init__(self, record: Recorder) -> None:
        self._record = record
        self._first = 0
        self._optimizers: list[tuple[Context | None, Any]] = []
        self._last: dict[int, float] = {}

    def begin(self, fit: Fit) -> None:
        self._first = fit.first
        self._last.clear()
        self._optimizers = [
            (
                None if label == "optimizer" else {"optimizer": label},
                getattr(optimizer, "inner_optimizer", None) or optimizer,
            )
            for label, optimizer in optimizers_of(fit.model)
        ]

    def end_step(self, done: int, count: int) -> None:
        for index, (value, context) in enumerate(self.set_last()):
            if self._last.get(index) != value:
                self._last[index] = value
                self._record.metrics({"lr": value}, self._first + done - count, context)

    def settle(self, done: int) -> None:
        """There is nothing to wait for."""

    def end(self) -> None:
        self._optimizers = []

    @property
    def assigned(self) -> list[float]:
        """Another value when a rate was set."""
        return [value for value, _ in self.set_last()]

    def set_last(self) -> list[tuple[float, Context | None]]:
        return list(self._now())

    def _now(self) -> Iterator[tuple[float, Context | None]]:
        for context, optimizer in self._optimizers:
            # Of a schedule, this one has what it last answered.
            variable = getattr(optimizer, "_current_learning_rate", None)
            if variable is None:
                variable = getattr(optimizer, "_learning_rate", None)
            if variable is not None and hasattr(variable, "numpy") and is_here(variable):
                yield float(variable.numpy()), context


class TfKerasIntegration(KerasIntegration):
    requires = "tf-keras>=2.16"
    captures: ClassVar[tuple[Capture, ...]] = CAPTURES
    not_captured: ClassVar[tuple[str, ...]] = NOT_CAPTURED

    def install(self, patch: Patcher, record: Recorder) -> None:
        keras = importlib.import_module("tf_keras")
        training = importlib.import_module("tf_keras.src.engine.training")
        # Losses that are not installed: those of single batches stay missing.
        self.prepare(record, keras, "tensorflow", Losses(record, keras.__name__), Rates(record))
        callbacks = importlib.import_module("tf_keras.src.callbacks").CallbackList
        self.watch_calls(patch, keras, training.Model)
        self.evaluations.predictions.install(patch, training.Model, "tensorflow")
        patch.tap(training, "flatten_metrics_in_order", self.on_flatten, None)
        self.watch_list(patch, callbacks, self.on_train_batch_end, self.on_epoch_end, self.on_test_end)

    def on_flatten(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.single.on_flatten((None, *args), kwargs)

    def on_train_batch_end(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        callbacks, last, logs = _of_batch(*args, **kwargs)
        fit = self.calls.fit_of(callbacks)
        if fit is not None:
            # Keras 2 names the first and the last batch of those that it has executed at once.
            fit.batch = int(fit.batch)
            fit.at_once = int(last) - fit.batch + 1
            self.calls.on_train_batch_end((callbacks, last, numbers(logs)), {})

    def on_epoch_end(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        callbacks, epoch, logs = _of_batch(*args, **kwargs)
        return self.calls.on_epoch_end((callbacks, epoch, numbers(logs, is_waited_for=True)), {})

    def on_test_end(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        logs = args[1] if len(args) > 1 else kwargs.get("logs")
        self.evaluations.on_test_end((args[0], numbers(logs, is_waited_for=True)), {})


def _of_batch(callbacks: Any, number: int, logs: Any = None) -> tuple[Any, int, Any]:
    return callbacks, number, logs
