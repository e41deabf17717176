"""Hugging Face Accelerate: training loops that the program writes itself, around an ``Accelerator``.

PyTorch's layer sees these loops as it sees any other: ``Accelerator.backward`` divides the loss by the number of batches that are
gathered, so the sum of what was backwarded since the last step *is* the loss of the step, and the optimizer's hooks tell when
there was one. Left to do here is what only Accelerate knows: its settings, what is handed to ``accelerator.log``, its folders.

``GeneralTracker``, Accelerate's own place for experiment trackers, has to be named by the program when it makes the Accelerator. So
``log`` is observed instead, and works without any tracker.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from looptap.integration import Capture, Integration
from looptap.patching import Call, Observation, Patcher
from looptap.plain import is_number
from looptap.recorder import Recorder

_SETTINGS = (
    "mixed_precision",
    "gradient_accumulation_steps",
    "num_processes",
    "split_batches",
    "dispatch_batches",
    "even_batches",
    "use_distributed",
)


class AccelerateIntegration(Integration):
    requires = "accelerate>=1.0"
    captures = (
        Capture("loss, lr, step_time, grad_norm of every optimizer step", "the torch integration", "each step"),
        Capture("what is handed to accelerator.log, with its step", "Accelerator.log", "each call"),
        Capture(
            "accelerate.*: mixed_precision, gradient_accumulation_steps, …",
            "Accelerator.__init__, prepare",
            "once a run",
        ),
        Capture("the config given to init_trackers", "Accelerator.init_trackers", "each call"),
        Capture("checkpoints", "Accelerator.save_state", "each call", "in the background"),
    )
    not_captured = (
        "text, images and tables handed to accelerator.log",
        "the loss under DeepSpeed and Megatron-LM, which run the backward pass themselves",
    )

    def install(self, patch: Patcher, record: Recorder) -> None:
        self.record = record
        #: The run that the settings were told to, and of which accelerator.
        self.told: object = None
        accelerator = importlib.import_module("accelerate.accelerator").Accelerator
        patch.observe(accelerator, "__init__", self.on_accelerator)
        patch.observe(accelerator, "prepare", self.on_accelerator)
        patch.observe(accelerator, "init_trackers", self.on_init_trackers)
        patch.observe(accelerator, "log", self.on_log)
        patch.observe(accelerator, "save_state", self.on_save)

    def on_accelerator(self, call: Call) -> Observation:
        yield
        told = (self.record.generation, id(call.instance))
        if call.error is None and told != self.told:
            self.told = told
            found = {name: getattr(call.instance, name) for name in _SETTINGS if hasattr(call.instance, name)}
            found["distributed_type"] = call.instance.distributed_type
            self.record.params({"accelerate": found}, "accelerate")

    def on_init_trackers(self, call: Call) -> Observation:
        config = call.args[2] if len(call.args) > 2 else call.kwargs.get("config")
        if isinstance(config, Mapping) and call.instance.is_main_process:
            self.record.params(config, "accelerate")
        with self.record.suppress():
            yield

    def on_log(self, call: Call) -> Observation:
        values = call.args[1] if len(call.args) > 1 else call.kwargs.get("values")
        step = call.args[2] if len(call.args) > 2 else call.kwargs.get("step")
        if isinstance(values, Mapping) and call.instance.is_main_process:
            self._write(_numbers(values), step)
        with self.record.suppress():  # the trackers are told the same once more
            yield

    def _write(self, numbers: dict[str, Any], step: Any) -> None:
        record = self.record
        known = record.known_at(record.step) if step is None or step == record.step else {}
        # The loss of the last batch is another number than the loss of the step, and does not go into its series.
        apart = {name: value for name, value in numbers.items() if name in known and known[name] != value}
        if apart:
            record.log_metrics(apart, step, {"logger": "accelerate"}, source="accelerate")
        numbers = {name: value for name, value in numbers.items() if name not in apart}
        if numbers:
            record.log_metrics(numbers, step, source="accelerate")

    def on_save(self, call: Call) -> Observation:
        with self.record.suppress():  # the folder counts as one
            yield
        if call.error is None and call.result is not None and call.instance.is_main_process:
            step = self.record.step
            self.record.files_in(call.result, step=step if step >= 0 else None)


def _numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers among the values; those of a dict inside by ``outer/inner``, as the trackers have them."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found.update((f"{name}/{inner}", item) for inner, item in _numbers(value).items())
        elif is_number(value):
            found[name] = value
    return found
