"""Lightning: where we stand in the framework. What is written is in :mod:`~looptap_integrations.lightning.fits`.

The callback comes from Lightning's own entry point, in every Trainer made after ``autolog()``. One made before gets it for the time
of a call of ``fit``, ``validate``, ``test`` or ``predict``.
"""

from __future__ import annotations

import importlib
from typing import Any, ClassVar

from looptap.callback import callback_kind
from looptap.integration import Capture, Integration
from looptap.patching import Call, Observation, Patcher
from looptap.recorder import Recorder
from looptap_integrations.lightning.fits import EVENTS, Fits


class LightningIntegration(Integration):
    requires = "lightning>=2.4"
    captures = (
        Capture(
            "what you log with self.log and self.log_dict, under Lightning's names", "Callback", "each step, each epoch"
        ),
        Capture("loss of every step, where you do not log it yourself", "the torch integration", "each step"),
        Capture("epoch", "Callback.on_train_epoch_start", "each epoch"),
        Capture("hparams of the LightningModule and the DataModule", "hparams_initial", "once a fit"),
        Capture("trainer.*: precision, max_epochs, accumulate_grad_batches, strategy, …", "the Trainer", "once a fit"),
        Capture("checkpoints, described as best or last", "Trainer.save_checkpoint", "each call", "in the background"),
    )
    not_captured = (
        "values logged with logger=False",
        "the sanity check before a fit, and the trial steps of the tuner",
        "checkpoints that a strategy writes as a folder of shards, other than through torch.distributed.checkpoint",
    )
    package: ClassVar[str] = "lightning.pytorch"

    def install(self, patch: Patcher, record: Recorder) -> None:
        self.record = record
        self.fits = fits = Fits(record)
        self.kind = callback_kind(f"{self.package}.callbacks:Callback", EVENTS)
        for event in EVENTS:
            patch.hook(self.kind.listen(event), getattr(fits, event))
        base = importlib.import_module(f"{self.package}.core.module").LightningModule
        patch.tap(base, "log", fits.before_log, fits.after_log)
        trainer = importlib.import_module(f"{self.package}.trainer.trainer")
        for name in ("fit", "validate", "test", "predict"):
            patch.observe(trainer.Trainer, name, self.on_call)
        patch.observe(trainer.Trainer, "save_checkpoint", self.on_save)
        patch.observe(trainer, "_log_hyperparams", self.on_loggers)
        connector = importlib.import_module(f"{self.package}.trainer.connectors.logger_connector.logger_connector")
        patch.observe(connector._LoggerConnector, "log_metrics", self.on_log_metrics)
        patch.observe(f"{self.package}.callbacks.lr_finder", "_lr_find", self.on_trial)
        patch.observe(f"{self.package}.callbacks.batch_size_finder", "_scale_batch_size", self.on_trial)

    def on_call(self, call: Call) -> Observation:
        trainer = call.instance
        given = trainer.callbacks
        if any(map(self.kind.is_kind_of, given)):
            yield
            return
        # Not into the list, which is the one that the user passed.
        trainer.callbacks = ours = [self.kind.new(), *given]
        yield
        if trainer.callbacks is ours:
            trainer.callbacks = given
        else:
            trainer.callbacks = [callback for callback in trainer.callbacks if not self.kind.is_kind_of(callback)]

    def on_log_metrics(self, call: Call) -> Observation:
        """Lightning hands values to its loggers."""
        connector = call.instance
        metrics: Any = call.args[1] if len(call.args) > 1 else call.kwargs.get("metrics")
        step: Any = call.args[2] if len(call.args) > 2 else call.kwargs.get("step")
        if connector._first_loop_iter is None:
            self.fits.at_end_of_epoch(connector.trainer, metrics, step)
        elif not connector.trainer.training:
            self.fits.in_evaluation(metrics, step)
        with self.record.suppress():  # what TensorBoard and the like are told is the same once more
            yield

    def on_loggers(self, call: Call) -> Observation:
        with self.record.suppress():
            yield

    def on_trial(self, call: Call) -> Observation:
        before = self.record.step
        with self.record.suppress():
            yield
        self.record.step = before

    def on_save(self, call: Call) -> Observation:
        with self.record.suppress():  # of what torch.save writes, only the whole file counts
            yield
        if call.error is None:
            path = call.args[1] if len(call.args) > 1 else call.kwargs.get("filepath")
            self.fits.saved(call.instance, path)

    def finish(self) -> None:
        self.fits.look_again()


class PytorchLightningIntegration(LightningIntegration):
    requires = "pytorch-lightning>=2.4"
    package = "pytorch_lightning"
