"""Hugging Face Transformers: ``Trainer``, its subclasses, and trainers that are built like it (TRL).

A callback (``TrainerCallback``) is added to the list that every trainer makes for itself, whatever it was made of. A trainer that
was made before ``autolog()`` gets it when it is used.

Who records what: the *loss of every step* comes from PyTorch's layer. What the Trainer logs as ``loss`` is the mean over the steps
since its last log. Where that was one step it is the same number; otherwise it is recorded as ``train/loss``, which is what the
Trainer's own reporters call it. All else (``learning_rate``, ``grad_norm``, ``eval_loss``, …) has the Trainer's names.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from looptap.callback import callback_kind
from looptap.integration import Capture, Integration
from looptap.patching import Call, Observation, Patcher
from looptap.plain import is_number
from looptap.recorder import Recorder

_EVENTS = ("on_train_begin", "on_log", "on_predict", "on_save")
#: Those among the reporters of ``report_to`` whose libraries looptap listens to as well.
_REPORTERS = ("TensorBoardCallback", "WandbCallback", "MLflowCallback")
#: Of a setting with more entries than this only their number is kept (``id2label`` of a model with a thousand classes).
_ENTRIES_LIMIT = 50


class TransformersIntegration(Integration):
    requires = "transformers>=4.46"
    captures = (
        Capture(
            "learning_rate, grad_norm, epoch, eval_*, train_*: what the Trainer logs",
            "TrainerCallback.on_log",
            "each log",
        ),
        Capture("loss of every step", "the torch integration", "each step"),
        Capture(
            "train/loss: the Trainer's mean since its last log", "TrainerCallback.on_log", "each log of several steps"
        ),
        Capture("test_*: metrics of predict()", "TrainerCallback.on_predict", "each call"),
        Capture(
            "TrainingArguments, and the model's config as config.*", "TrainerCallback.on_train_begin", "once a run"
        ),
        Capture("checkpoints, described as best", "TrainerCallback.on_save", "each checkpoint", "in the background"),
    )
    not_captured = ("steps inside of hyperparameter_search() are runs of their own, without the search around them",)

    def install(self, patch: Patcher, record: Recorder) -> None:
        self.record = record
        #: What holds while the Trainer leads.
        self.lead = ExitStack()
        #: From the Trainer's count of steps to that of the run.
        self.distance = 0
        self.logged_at = 0
        self.epoch: tuple[Any, int] | None = None
        self.kind = callback_kind("transformers.trainer_callback:TrainerCallback", _EVENTS)
        for event in _EVENTS:
            patch.hook(self.kind.listen(event), getattr(self, event))
        handler = importlib.import_module("transformers.trainer_callback").CallbackHandler
        patch.observe(handler, "__init__", self.on_handler)
        trainer = importlib.import_module("transformers.trainer").Trainer
        patch.observe(trainer, "train", self.on_train)
        patch.observe(trainer, "evaluate", self.on_evaluation)
        patch.observe(trainer, "predict", self.on_evaluation)
        patch.observe(trainer, "_save_checkpoint", self.on_silent)
        reporters = importlib.import_module("transformers.integrations.integration_utils")
        for name in _REPORTERS:
            reporter = getattr(reporters, name, None)
            for method in ("setup", "on_log"):
                if reporter is not None and hasattr(reporter, method):
                    patch.observe(reporter, method, self.on_silent)

    # --- where the callback gets in ---------------------------------------------------------------------------------

    def on_handler(self, call: Call) -> Observation:
        yield
        if call.error is None:
            self._join(call.instance)

    def on_train(self, call: Call) -> Observation:
        self._join(call.instance.callback_handler)
        yield
        self.lead.close()

    def on_evaluation(self, call: Call) -> Observation:
        self._join(call.instance.callback_handler)
        with self.record.cover("validation"):
            yield

    def on_silent(self, call: Call) -> Observation:
        """What is done here is recorded elsewhere, in one piece."""
        with self.record.suppress():
            yield

    def _join(self, handler: Any) -> None:
        if not any(map(self.kind.is_kind_of, handler.callbacks)):
            handler.callbacks.append(self.kind.new())

    # --- what the callback is told ----------------------------------------------------------------------------------

    def on_train_begin(self, args: Any, state: Any, control: Any, more: dict[str, Any]) -> None:
        record = self.record
        self.lead.close()
        # The Trainer counts the steps that are done: its first one has the number 1.
        self.distance = self.lead.enter_context(record.training(state.global_step + 1))
        self.logged_at, self.epoch = state.global_step, None
        covered = ["validation"]
        if _plain(args.logging_strategy) != "no":
            covered += ["lr", "grad_norm", "epoch"]
        self.lead.enter_context(record.cover(*covered))
        if state.is_world_process_zero:
            record.params(_settings(args.to_dict()), "transformers")
            config: Any = getattr(more.get("model"), "config", None)
            if hasattr(config, "to_dict"):
                record.params({"config": _settings(config.to_dict())}, "transformers")

    def on_log(self, args: Any, state: Any, control: Any, more: dict[str, Any]) -> None:
        values = dict(more.get("logs") or {})
        step = state.global_step + self.distance
        if not state.is_world_process_zero:
            return
        if "loss" in values:
            steps, self.logged_at = state.global_step - self.logged_at, state.global_step
            if "loss" in self.record.known_at(step):
                mean = values.pop("loss")
                if steps > 1:
                    values["train/loss"] = mean
        if (values.get("epoch"), step) == self.epoch:
            del values["epoch"]
        elif "epoch" in values:
            self.epoch = (values["epoch"], step)
        self._write(values, step)

    def on_predict(self, args: Any, state: Any, control: Any, more: dict[str, Any]) -> None:
        if state.is_world_process_zero:
            self._write(more.get("metrics") or {}, state.global_step + self.distance)

    def on_save(self, args: Any, state: Any, control: Any, more: dict[str, Any]) -> None:
        if not state.is_world_process_zero:
            return
        name = f"checkpoint-{state.global_step}"
        folder = os.path.join(args.output_dir, name)
        is_best = os.path.basename(state.best_model_checkpoint or "") == name
        self.record.files_in(folder, step=state.global_step + self.distance, description="best" if is_best else None)

    def _write(self, values: Mapping[str, Any], step: int) -> None:
        numbers = {name: value for name, value in values.items() if is_number(value)}
        if numbers:
            self.record.log_metrics(numbers, step)


def _plain(strategy: Any) -> str:
    return str(getattr(strategy, "value", strategy))


def _settings(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        str(name): f"{len(value)} entries" if isinstance(value, Mapping) and len(value) > _ENTRIES_LIMIT else value
        for name, value in values.items()
    }
