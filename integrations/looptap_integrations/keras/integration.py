"""What looptap watches in Keras 3, and in tf-keras, which is Keras 2: where we stand in the framework.

Every backend makes a list of callbacks inside of ``fit``, ``evaluate`` and ``predict``, also where the program gives none. Its
methods are what we watch: nothing is added to the program's list, and nothing that Keras does for a callback is done for us.
"""

from __future__ import annotations

import importlib
import inspect
import threading
from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

from looptap.integration import Capture, Integration
from looptap.patching import Call, Observation, Patcher
from looptap.recorder import Recorder
from looptap_integrations.keras import datasets, decisions, facts, model_files, rates, references, waits
from looptap_integrations.keras.batches import Batches
from looptap_integrations.keras.calls import Calls
from looptap_integrations.keras.decisions import Decisions
from looptap_integrations.keras.evaluations import Evaluations
from looptap_integrations.keras.facts import Facts
from looptap_integrations.keras.losses import Losses
from looptap_integrations.keras.rates import Rates, RatesOfFit
from looptap_integrations.keras.settings import fit_settings
from looptap_integrations.keras.single_batches import SingleBatches
from looptap_integrations.keras.waits import Waits

Tap: TypeAlias = Callable[[tuple[Any, ...], dict[str, Any]], Any]


class KerasIntegration(Integration):
    requires = "keras>=3.3"
    captures: ClassVar[tuple[Capture, ...]] = (
        Capture(
            "loss, accuracy, …: Keras' values of every batch under Keras' names, which are running means of the epoch",
            "CallbackList.on_train_batch_end, once Keras has converted them",
            "each batch",
        ),
        Capture("step_time, epoch", "CallbackList", "each batch, each epoch"),
        *waits.CAPTURES,
        Capture(
            "batch_loss, batch_a_loss, …: the loss of the batch itself, by the metric that keeps its mean; of every step of"
            " steps_per_execution",
            "metrics.Mean.update_state; in a graph of TensorFlow, a ring beside the program's operations",
            "each batch, not on JAX",
        ),
        Capture(
            "loss, … of train_on_batch, as Keras returns them; lr when it changes, on the CPU",
            "Model.train_on_batch",
            "each call",
        ),
        Capture(
            "epoch_loss, epoch_accuracy, …, val_loss, …: values at the end of an epoch, also what callbacks add to them",
            "CallbackList.on_epoch_end",
            "each epoch",
        ),
        Capture(
            "test/loss, …: evaluate(); validation/ or train/ where the program calls the data so",
            "CallbackList.on_test_end",
            "each call",
        ),
        Capture("predict/time", "Model.predict", "each call within a run"),
        *references.CAPTURES,
        Capture("fit.epochs, fit.batch_size, …: arguments of fit", "Model.fit", "each call"),
        *rates.CAPTURES,
        *facts.CAPTURES,
        *decisions.CAPTURES,
        *model_files.CAPTURES,
        *datasets.CAPTURES,
    )
    not_captured: ClassVar[tuple[str, ...]] = (
        "values of single batches of an evaluation: they are running means on the way to that of the pass, which is recorded",
        "batch_loss on JAX, but for run_eagerly: the value is inside of a compiled function, which hands out nothing but Keras'"
        " values; in train_step compiled by torch.compile; with several replicas of tf.distribute; and of what was compiled before"
        " autolog()",
        "lr of a schedule in train_on_batch; in a graph that was compiled before autolog(), or that does not ask it once a step",
        "test_on_batch, predict_on_batch",
        *references.NOT_CAPTURED,
        *model_files.NOT_CAPTURED,
        *datasets.NOT_CAPTURED,
    )

    #: None where nothing tells the parts of a step.
    waits: Waits | None = None

    def install(self, patch: Patcher, record: Recorder) -> None:
        keras = importlib.import_module("keras")
        backend = keras.backend.backend()
        losses, rates = Losses(record, backend), Rates(record, backend)
        self.prepare(record, keras, backend, losses, rates)
        self.waits = Waits(losses, backend)
        callbacks = importlib.import_module("keras.src.callbacks.callback_list").CallbackList
        self.watch_calls(patch, keras, _trainer())
        trainer = importlib.import_module("keras.src.trainers.trainer").Trainer
        patch.tap(trainer, "_flatten_metrics_in_order", self.single.on_flatten, None)
        calls = self.calls
        self.watch_list(patch, callbacks, calls.on_train_batch_end, calls.on_epoch_end, self.evaluations.on_test_end)
        self._watch_conversions(patch, callbacks)
        losses.install(patch)
        self.evaluations.predictions.install(patch, trainer, backend)
        rates.install(patch)
        self.waits.install(patch)

    def prepare(self, record: Recorder, keras: Any, backend: str, losses: Losses, rates: RatesOfFit) -> None:
        self.record, self.rates = record, rates
        self.batches = Batches(record)
        self.facts, self.decisions = Facts(record, keras, backend), Decisions(record, keras, rates)
        self.calls = Calls(record, self.batches, losses, rates)
        self.datasets = datasets.Datasets(record)
        self.evaluations = Evaluations(record, self.calls, self.datasets)
        self.single = SingleBatches(record, self.calls, self.facts, self.datasets)
        self.here = threading.local()

    def watch_calls(self, patch: Patcher, keras: Any, trainer: type) -> None:
        """What the program calls. ``trainer`` is the class that has ``fit``."""
        patch.observe(trainer, "fit", self.on_fit)
        patch.observe(trainer, "evaluate", self.evaluations.on_evaluate)
        patch.observe(trainer, "predict", self.evaluations.on_predict)
        patch.observe(trainer, "train_on_batch", self.single.on_train_on_batch)
        self.signature = inspect.signature(trainer.fit)  # type: ignore[attr-defined]
        self.datasets.install(patch, keras, trainer)
        model_files.ModelFiles(self.record).install(patch, keras)
        self.decisions.install(patch)
        patch.when_undone(self.calls.end_all)

    def watch_list(self, patch: Patcher, callbacks: type, batch_end: Tap, epoch_end: Tap, test_end: Tap) -> None:
        """What Keras tells its list of callbacks, and who takes the values."""
        calls = self.calls
        patch.tap(callbacks, "on_train_begin", self.on_train_begin, None)
        patch.tap(callbacks, "on_epoch_begin", calls.on_epoch_begin, calls.told)
        patch.tap(callbacks, "on_train_batch_begin", calls.on_train_batch_begin, None)
        patch.tap(callbacks, "on_train_batch_end", batch_end, calls.told)
        patch.tap(callbacks, "on_epoch_end", epoch_end, calls.after_epoch_end)
        patch.tap(callbacks, "on_train_end", None, self.after_train_end)
        patch.tap(callbacks, "on_test_begin", self.evaluations.on_test_begin, None)
        patch.tap(callbacks, "on_test_end", test_end, None)

    def _watch_conversions(self, patch: Patcher, callbacks: type) -> None:
        """Where Keras turns values into numbers: a function since 3.7, a method of the list in 3.6, and before that somewhere on
        the way to the list."""
        owners = (
            (importlib.import_module("keras.src.utils.python_utils"), "pythonify_logs"),
            (callbacks, "_pythonify_logs"),
        )
        for owner, name in owners:
            if hasattr(owner, name):
                batches = self.batches
                batches.are_converted = True
                patch.tap(owner, name, batches.before_conversion, batches.converted, unless=batches.owes_nothing)

    def on_fit(self, call: Call) -> Observation:
        under_way = self._under_way()
        under_way.append(FitCall(call))
        yield
        one = under_way.pop()
        if one.place is not None:
            self.calls.end(one.place)

    def on_train_begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        callbacks = args[0]
        self.calls.on_train_begin(args, kwargs)
        fit = self.calls.fit_of(callbacks)
        if fit is None:
            return
        self.facts.trained(fit.model)
        if fit.context is None:
            self.rates.begin(fit)
            self.decisions.begin(callbacks)
        under_way = self._under_way()
        if under_way and under_way[-1].place is None and under_way[-1].model is fit.model:
            under_way[-1].place = id(callbacks)
            if self.waits is not None:
                self.waits.begin(fit)
            if fit.context is None:
                self.record.params({"fit": fit_settings(self.signature, under_way[-1].call)}, "keras")
            self.datasets.trained(under_way[-1].call)

    def after_train_end(self, args: tuple[Any, ...]) -> None:
        fit = self.calls.fit_of(args[0])
        if fit is not None:
            self.facts.has_trained(fit.model)
            if fit.context is None:
                self.decisions.end(args[0])
        self.calls.end(id(args[0]))

    def finish(self) -> None:
        self.calls.finish()
        self.batches.forget()
        self.evaluations.predictions.finish()

    def _under_way(self) -> list[FitCall]:
        """The calls of fit under way in this thread, from the outermost inwards."""
        under_way: list[FitCall] | None = getattr(self.here, "under_way", None)
        if under_way is None:
            under_way = self.here.under_way = []
        return under_way


class FitCall:
    """A call of ``fit`` that is under way."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.model = call.instance
        #: The id of its list of callbacks, once that has been told that the training begins.
        self.place: int | None = None


def _trainer() -> Any:
    """The class with the ``fit`` of this backend."""
    model = importlib.import_module("keras.src.models.model").Model
    return next(kind for kind in model.__mro__ if "fit" in vars(kind))
