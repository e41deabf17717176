"""PyTorch Ignite: engines and their events.

While an ``Engine`` runs, it has handlers of ours behind those of the program; afterwards they are gone. The engine in whose
iterations an optimizer steps is the *trainer*; an engine without any step is an *evaluator*. Steps,
losses and learning rates of the trainer come from PyTorch's layer, and every series stands over its steps.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections.abc import Mapping
from typing import Any

from looptap.frames import variables_in_reach
from looptap.integration import Capture, Integration
from looptap.patching import Call, Observation, Patcher
from looptap.plain import is_number
from looptap.recorder import Recorder
from looptap.splits import split_in

#: Those among the loggers of Ignite whose libraries looptap listens to as well.
_LOGGERS = ("tensorboard_logger", "wandb_logger", "mlflow_logger")


class Running:
    """An engine that runs."""

    def __init__(self, engine: Any, split: str) -> None:
        self.engine = engine
        #: If it is an evaluator: train, validation or test.
        self.split = split
        #: Told by the first of its iterations in which an optimizer steps.
        self.is_trainer = False
        #: The recorder's step when the iteration began.
        self.step_before = -1
        #: The epoch that has begun and is not on record yet.
        self.epoch: int | None = None


class Handler:
    """For ``Patcher.hook``: a handler of ours, until it is removed."""

    def __init__(self, handlers: dict[Any, Any], event: Any, handler: Any) -> None:
        self._handlers, self._event = handlers, event
        handlers[event] = handler

    def remove(self) -> None:
        self._handlers.pop(self._event, None)


class IgniteIntegration(Integration):
    requires = "pytorch-ignite>=0.5"
    captures = (
        Capture("loss, lr, step_time of every optimizer step", "the torch integration", "each step"),
        Capture("what the trainer's step returns as a dict of numbers", "Events.ITERATION_COMPLETED", "each iteration"),
        Capture(
            "metrics attached to the trainer, and its epoch", "Events.EPOCH_COMPLETED, EPOCH_STARTED", "each epoch"
        ),
        Capture(
            "validation/*, test/*, train/*: metrics attached to an evaluator, at the trainer's step",
            "Events.COMPLETED",
            "each run of an evaluator",
        ),
        Capture("trainer.max_epochs, trainer.epoch_length", "Engine.state", "once a run"),
        Capture("checkpoints of DiskSaver, with their score", "DiskSaver.__call__", "each call", "in the background"),
    )
    not_captured = (
        "metrics with several numbers (confusion matrices)",
        "what a step returns as one number: it has no name, and is on record as the loss",
    )

    def install(self, patch: Patcher, record: Recorder) -> None:
        self.record = record
        self.running: list[Running] = []
        #: The run that the trainer's settings were told to.
        self.told = -1
        #: By event: what an engine gets for the time that it runs.
        self.handlers: dict[Any, Any] = {}
        engine = importlib.import_module("ignite.engine")
        for event, handler in (
            ("EPOCH_STARTED", self.on_epoch_started),
            ("ITERATION_STARTED", self.on_iteration_started),
            ("ITERATION_COMPLETED", self.on_iteration_completed),
            ("EPOCH_COMPLETED", self.on_epoch_completed),
        ):
            patch.hook(functools.partial(Handler, self.handlers, getattr(engine.Events, event)), handler)
        patch.observe(engine.Engine, "run", self.on_run)
        patch.observe(importlib.import_module("ignite.handlers.checkpoint").DiskSaver, "__call__", self.on_save)
        for name in _LOGGERS:
            logger = importlib.import_module(f"ignite.handlers.{name}")
            patch.observe(logger.OutputHandler, "__call__", self.on_logger)
            patch.observe(logger.OptimizerParamsHandler, "__call__", self.on_logger)

    # --- calls ------------------------------------------------------------------------------------------------------

    def on_run(self, call: Call) -> Observation:
        engine = call.instance
        data = call.args[1] if len(call.args) > 1 else call.kwargs.get("data")
        running = Running(engine, self._split(engine, data))
        self.running.append(running)
        handles = [engine.add_event_handler(event, handler) for event, handler in self.handlers.items()]
        with self.record.cover("epoch", "validation"):
            yield
        for handle in handles:
            handle.remove()
        self.running.remove(running)

    def on_save(self, call: Call) -> Observation:
        with self.record.suppress():  # of a temporary file that gets its name later
            yield
        saver = call.instance
        filename = call.args[2] if len(call.args) > 2 else call.kwargs.get("filename")
        path = os.path.join(saver.dirname, str(filename))
        if call.error is None and os.path.isfile(path):
            about = (call.args[3] if len(call.args) > 3 else call.kwargs.get("metadata")) or {}
            score = f"{about['score_name']} {about['priority']}" if about.get("score_name") else None
            step = self.record.step
            self.record.file(path, kind="model", step=step if step >= 0 else None, description=score)

    def on_logger(self, call: Call) -> Observation:
        """What TensorBoard and the like are told of metrics and learning rates is on record already."""
        with self.record.suppress():
            yield

    # --- events -----------------------------------------------------------------------------------------------------

    def on_epoch_started(self, engine: Any) -> None:
        self._of(engine).epoch = engine.state.epoch

    def on_iteration_started(self, engine: Any) -> None:
        self._of(engine).step_before = self.record.step

    def on_iteration_completed(self, engine: Any) -> None:
        record, running = self.record, self._of(engine)
        if record.step <= running.step_before:
            return
        if not running.is_trainer:
            running.is_trainer = True
            self._tell(engine)
        if running.epoch is not None:
            record.metrics({"epoch": float(running.epoch)}, record.step)
            running.epoch = None
        output = engine.state.output
        if isinstance(output, Mapping):
            known = record.known_at(record.step)
            values = {
                str(name): value
                for name, value in output.items()
                if is_number(value) and str(name) not in known and not _is_loss(value, known)
            }
            if values:
                record.log_metrics(values, record.step, source="ignite")

    def on_epoch_completed(self, engine: Any) -> None:
        record, running = self.record, self._of(engine)
        values = {str(name): value for name, value in engine.state.metrics.items() if is_number(value)}
        for name in engine.state.metrics.keys() - values.keys():
            record.note("ignite", f"the metric {name} of an engine is no single number")
        if not running.is_trainer:
            values = {f"{running.split}/{name}": value for name, value in values.items()}
        if values:
            record.log_metrics(values, record.step if record.step >= 0 else None, source="ignite")

    # --- private ----------------------------------------------------------------------------------------------------

    def _of(self, engine: Any) -> Running:
        return next(running for running in reversed(self.running) if running.engine is engine)

    def _tell(self, engine: Any) -> None:
        if self.told != self.record.generation:
            self.told = self.record.generation
            state = engine.state
            self.record.params(
                {"trainer": {"max_epochs": state.max_epochs, "epoch_length": state.epoch_length}}, "ignite"
            )

    def _split(self, engine: Any, data: Any) -> str:
        """Of an evaluator: what the program's names for the data and the engine say, and otherwise whose data it is."""
        frame = sys._getframe(3)  # of the call of run()
        found: dict[int, str] = {}
        for name, value in variables_in_reach(frame):
            if (value is data or value is engine) and value is not None and (split := split_in(name)):
                found.setdefault(id(value), split)
        split = found.get(id(data)) or found.get(id(engine))
        if split is None:
            trained_on = next((running.engine.state.dataloader for running in self.running), None)
            split = "train" if data is not None and data is trained_on else "validation"
        return split


def _is_loss(value: Any, known: Mapping[str, float]) -> bool:
    """Whether this is the loss that PyTorch's layer has at this step, under another name."""
    return isinstance(value, float) and value in known.values()
