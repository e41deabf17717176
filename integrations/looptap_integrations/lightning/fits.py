"""Fits, and the evaluations around them: what Lightning's events leave behind.

A step is Lightning's: the number that its loggers get, which counts the batches after which an optimizer stepped, from 0 and on
from a checkpoint. With automatic optimization it is the optimizer's step, so PyTorch's layer counts along. A fit is a run; where
the user began the run, all of its fits belong to it, one after the other.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from looptap.recorder import Recorder
from looptap_integrations.lightning.settings import hyperparameters, trainer_settings

#: The events of Lightning's that :class:`Fits` has methods for.
EVENTS = (
    "on_sanity_check_start",
    "on_sanity_check_end",
    "on_train_start",
    "on_train_epoch_start",
    "on_train_batch_start",
    "on_before_backward",
    "on_train_batch_end",
    "on_train_epoch_end",
    "on_train_end",
    "on_validation_start",
    "on_test_start",
    "on_predict_start",
    "on_exception",
    "teardown",
)


#: What PyTorch's layer has at a step beside losses.
_NO_LOSSES = ("step_time", "time.", "lr", "epoch", "grad_norm", "amp_", "closure_")


class Fits:
    def __init__(self, record: Recorder) -> None:
        self.record = record
        #: What holds while Lightning leads: left when the trainer is done or has failed.
        self.lead = ExitStack()
        #: The trainer that leads. Two callbacks of ours in one trainer (the user passed a list on) say everything twice.
        self.trainer: Any = None
        #: From Lightning's count of steps to that of the run.
        self.distance = 0
        #: The last step, in the run's count.
        self.step = 0
        self.is_in_step = False
        #: Whether the last batch ended a step.
        self.is_complete = False
        self.epoch: int | None = None
        #: What was logged last, by key of the collection: the same object again has not been logged again.
        self.written: dict[str, Any] = {}
        #: What was logged in the batch under way, as the program gave it.
        self.logged: list[Any] = []
        #: Whether the program logs the loss of every step itself; None until the first step tells.
        self.logs_loss: bool | None = None
        #: What the settings were told of.
        self.told: object = None
        #: Checkpoints that are not on the disk yet.
        self.waiting: list[tuple[str, str | None, int | None]] = []

    # --- the way of a fit -------------------------------------------------------------------------------------------

    def on_sanity_check_start(self, trainer: Any, module: Any, *_: Any) -> None:
        self.leave()
        self.lead.enter_context(self.record.suppress())

    def on_sanity_check_end(self, trainer: Any, module: Any, *_: Any) -> None:
        self.leave()

    def on_train_start(self, trainer: Any, module: Any, *_: Any) -> None:
        """Only now it is known where a resumed fit goes on."""
        record = self.record
        self.leave()
        self.trainer = trainer
        self.distance = self.lead.enter_context(record.training(_step(trainer)))
        self.step = record.step
        self.lead.enter_context(record.cover("epoch", "validation"))
        before: Callable[[], bool] = record.is_step_under_way
        record.is_step_under_way = self.is_step_under_way
        self.lead.callback(setattr, record, "is_step_under_way", before)
        self._tell(trainer, module)

    def is_step_under_way(self) -> bool:
        return self.is_in_step

    def on_train_epoch_start(self, trainer: Any, module: Any, *_: Any) -> None:
        if self._leads(trainer) and trainer.current_epoch != self.epoch:
            self.epoch = trainer.current_epoch
            self.record.metrics({"epoch": float(trainer.current_epoch)}, _step(trainer) + self.distance)

    def on_train_batch_start(self, trainer: Any, module: Any, *_: Any) -> None:
        self._write_rest(trainer)
        self.is_complete = False
        self.is_in_step = True
        self.logged.clear()

    def before_log(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """``LightningModule.log`` is called. Of interest until it is known whether the loss is among what is logged."""
        if self.logs_loss is not None or not self.is_in_step:
            return
        on_step = kwargs.get("on_step", args[5] if len(args) > 5 else None)
        if on_step is not False and kwargs.get("logger", True):
            self.logged.append(args[2] if len(args) > 2 else kwargs.get("value"))

    def after_log(self, token: Any) -> None:
        raise AssertionError("before_log leaves every call alone")

    def on_before_backward(self, trainer: Any, module: Any, loss: Any, *_: Any) -> None:
        """At the first one with automatic optimization: whether this loss has just been logged."""
        if self.logs_loss is not None or not self._leads(trainer) or not module.automatic_optimization:
            return
        # Under accumulation Lightning logs the last batch of a step, which is another number than the loss of the step.
        self._decide(trainer.accumulate_grad_batches == 1 and _is_among(loss, self.logged))

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        if not self._leads(trainer):
            return
        self.is_in_step = False
        if not trainer.fit_loop._should_accumulate() or not module.automatic_optimization:
            self.step = _step(trainer) + self.distance
            self.is_complete = True
            self._write(trainer, is_first=self.logs_loss is None)

    def on_validation_start(self, trainer: Any, module: Any, *_: Any) -> None:
        if self._leads(trainer):
            self._write_rest(trainer)
        elif not trainer.sanity_checking:
            self._begin_evaluation(trainer, module)

    def on_test_start(self, trainer: Any, module: Any, *_: Any) -> None:
        self._begin_evaluation(trainer, module)

    def on_predict_start(self, trainer: Any, module: Any, *_: Any) -> None:
        self._begin_evaluation(trainer, module)

    def on_train_epoch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        self._write_rest(trainer)

    def on_train_end(self, trainer: Any, module: Any, *_: Any) -> None:
        self.teardown(trainer, module)

    def on_exception(self, trainer: Any, module: Any, *_: Any) -> None:
        self.leave()

    def teardown(self, trainer: Any, module: Any, *_: Any) -> None:
        if self._leads(trainer):
            self.leave()

    # --- values -----------------------------------------------------------------------------------------------------

    def at_end_of_epoch(self, trainer: Any, metrics: Mapping[str, Any], step: int | None) -> None:
        """The means of an epoch of the training or of an evaluation, as Lightning hands them to its loggers."""
        values = dict(metrics)
        chosen = values.pop("step", None) if step is None else step
        if chosen is not None and getattr(chosen, "is_cpu", True):
            step = int(chosen)
        self.record.log_metrics(values, _step(trainer) + self.distance if step is None else step)

    def in_evaluation(self, metrics: Mapping[str, Any], step: int | None) -> None:
        """Values of one batch of an evaluation, which has its own count of batches."""
        self.record.log_metrics(metrics, step)

    def _write_rest(self, trainer: Any) -> None:
        """What was logged after our callback had its turn in the batch before."""
        if self.is_complete and self._leads(trainer):
            self._write(trainer)

    def _write(self, trainer: Any, is_first: bool = False) -> None:
        results = trainer.fit_loop.epoch_loop._results
        values: dict[str, Any] = {}
        for key, result in results.items():
            value = result._forward_cache
            if value is None or not (result.meta.on_step and result.meta.logger) or self.written.get(key) is value:
                continue
            self.written[key] = value
            values[results._forked_name(result, True)[1]] = value
        known = self.record.known_at(self.step)
        losses = {name: loss for name, loss in known.items() if not name.startswith(_NO_LOSSES)}
        if is_first and losses:
            self._decide(all(name in values or _is_equal(loss, values.values()) for name, loss in losses.items()))
        values = {name: value for name, value in values.items() if name not in losses}
        if values:
            self.record.log_metrics(values, self.step)

    def _decide(self, logs_loss: bool) -> None:
        self.logs_loss = logs_loss
        self.logged.clear()
        if logs_loss:
            self.lead.enter_context(self.record.cover("loss"))

    # --- files ------------------------------------------------------------------------------------------------------

    def saved(self, trainer: Any, path: Any) -> None:
        """``Trainer.save_checkpoint`` has returned."""
        if trainer.is_global_zero and isinstance(path, (str, os.PathLike)):
            path = os.fspath(path)
            step = self.record.step if self.record.step >= 0 else None
            self.waiting.append((path, _standing(trainer, path), step))
            self.look_again()

    def look_again(self) -> None:
        """A plugin may write in the background, or a folder, or nowhere that we can read."""
        waiting, self.waiting = self.waiting, []
        for path, description, step in waiting:
            if os.path.isfile(path):
                self.record.file(path, kind="model", step=step, description=description)
            elif not os.path.isdir(path):
                self.waiting.append((path, description, step))

    # --- private ----------------------------------------------------------------------------------------------------

    def leave(self) -> None:
        self.lead.close()
        self.look_again()
        self.trainer = self.epoch = self.logs_loss = None
        self.is_in_step = self.is_complete = False
        self.written.clear()
        self.logged.clear()

    def _leads(self, trainer: Any) -> bool:
        return self.trainer is trainer

    def _begin_evaluation(self, trainer: Any, module: Any) -> None:
        self.leave()
        self.trainer = trainer
        self.record.begin()
        self.lead.enter_context(self.record.cover("validation"))
        self._tell(trainer, module)

    def _tell(self, trainer: Any, module: Any) -> None:
        told = (self.record.generation, id(trainer), self.distance)
        if self.told != told:
            self.told = told
            self.record.params(hyperparameters(module, trainer.datamodule), "lightning")
            self.record.params({"trainer": trainer_settings(trainer)}, "lightning")


def _step(trainer: Any) -> int:
    """What Lightning's loggers would get now."""
    return int(trainer.fit_loop.epoch_loop._batches_that_stepped)


def _is_among(loss: Any, logged: list[Any]) -> bool:
    """By value where that costs no wait; on a device by where it comes from, which is Lightning's division of the loss."""
    if loss.is_cpu:
        return _is_equal(float(loss.detach()), logged)
    origin = loss.grad_fn.next_functions[0][0] if loss.grad_fn is not None and loss.grad_fn.next_functions else None
    return any(origin is not None and getattr(value, "grad_fn", None) is origin for value in logged)


def _is_equal(loss: Any, values: Any) -> bool:
    numbers = (value.detach() if getattr(value, "is_cpu", False) else value for value in values)
    return isinstance(loss, float) and any(
        float(number) == loss
        for number in numbers
        if isinstance(number, (int, float)) or (getattr(number, "is_cpu", False) and number.numel() == 1)
    )


def _standing(trainer: Any, path: str) -> str | None:
    """Whether a callback takes this checkpoint for the best one or the last one."""
    for callback in trainer.checkpoint_callbacks:
        if getattr(callback, "best_model_path", None) == path and getattr(callback, "monitor", None):
            return f"best {callback.monitor}"
        if getattr(callback, "last_model_path", None) == path:
            return "last"
    return None
