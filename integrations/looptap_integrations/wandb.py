"""Weights & Biases: what the program logs to a run there is on record here as well."""

from __future__ import annotations

from typing import Any

from looptap.integration import Capture, Integration
from looptap.measuring import numbers_in
from looptap.patching import Call, Observation, Patcher
from looptap.recorder import Recorder

SOURCE = "wandb"


class WandbIntegration(Integration):
    requires = "wandb>=0.15"
    captures = (
        Capture(
            "the numbers of wandb.log and run.log, nested ones with dots; at their step if one is given, else at the step of the"
            " training that is under way",
            "Run._log, which both call",
            "each call",
        ),
        Capture("wandb.config as params", "wandb.init, and every change of the config", "each call"),
    )
    not_captured = (
        "images, tables, histograms and other media",
        "the x axes of define_metric: points have the step of the call",
    )

    def install(self, patch: Patcher, record: Recorder) -> None:
        import wandb
        from wandb.sdk import wandb_config, wandb_run

        self._generation = -1
        #: Of the config, each value as text.
        self._told: dict[str, str] = {}
        # wandb.log is a method bound when the run began, which may have been before us. This is what it calls.
        patch.observe(wandb_run.Run, "_log", self.on_log)
        for module in ("wandb", "wandb.sdk", "wandb.sdk.wandb_init"):
            patch.observe(module, "init", self.on_init)
        for change in ("__setitem__", "__setattr__", "update", "setdefaults"):
            patch.observe(wandb_config.Config, change, self.on_config)
        if wandb.run is not None:
            self._params(wandb.run.config)

    def on_init(self, call: Call) -> Observation:
        yield
        if call.error is None and call.result is not None and not self.record.is_suppressed():
            self._params(call.result.config)

    def on_config(self, call: Call) -> Observation:
        with self.record.tee() as is_ours:
            yield
        if is_ours and call.error is None:
            self._params(call.instance)

    def on_log(self, call: Call) -> Observation:
        run = call.instance
        #: The number of the row that this goes to. (run.step would ask another process for it.)
        row = getattr(run, "_local_step", None)
        with self.record.tee() as is_ours:
            yield
        if not is_ours or call.error is not None:
            return
        data = call.args[1] if len(call.args) > 1 else call.kwargs.get("data")
        step = call.args[2] if len(call.args) > 2 else call.kwargs.get("step")
        if step is None and self.record.step < 0 and not self.record.is_step_under_way():
            step = row
        values = numbers_in(data or {})
        if values:
            self.record.log_metrics(values, step=step, source=SOURCE)

    def _params(self, config: Any) -> None:
        """What is new or has changed of it."""
        if self._generation != self.record.generation:
            self._generation = self.record.generation
            self._told.clear()
        for key, value in dict(config).items():
            text = repr(value)
            if not key.startswith("_wandb") and self._told.get(key) != text:
                self._told[key] = text
                self.record.params({key: value}, SOURCE)
