"""``tf.summary``: what the program hands to TensorBoard is on record here as well, also out of its graphs."""

from __future__ import annotations

import sys
import threading
from types import ModuleType
from typing import Any

import tensorflow as tf

from looptap.integration import Capture
from looptap.patching import Call, Observation, Patcher
from looptap.recorder import Recorder
from looptap_integrations.tensorflow.loop import SUMMARIES, Loop

CAPTURES = (
    Capture("scalars, under their tag and step, also those of a graph", "tf.summary.scalar", "each call"),
    Capture(
        "of a histogram its min, max, mean, std and count (tag/min, …)",
        "tf.summary.histogram outside of graphs",
        "each call",
        "one pass over the values more than TensorBoard's own",
    ),
    Capture("hyperparameters", "tensorboard.plugins.hparams.api.hparams", "each call"),
)
NOT_CAPTURED = (
    "histograms in graphs and of tensors on a device; images, audio, text and traces: they stay in TensorBoard's own files",
)

#: ``tf.summary``, and that which TensorBoard calls; ``import tensorflow.summary``, as Keras has it, makes another one of the first.
_MODULES = (
    "tensorflow._api.v2.summary",
    "tensorflow._api.v2.compat.v2.summary",
    "tensorflow.summary",
    "tensorflow.compat.v2.summary",
)


class Summaries:
    def __init__(self, record: Recorder, loop: Loop) -> None:
        self._record = record
        self._loop = loop
        #: Of the scalar under way in this thread: the tag and the step under which TensorFlow writes it.
        self._here = threading.local()

    def install(self, patch: Patcher) -> None:
        self._patch = patch
        for name in _MODULES:
            patch.when_imported(name, self._watch)
        patch.when_imported(
            "tensorboard.plugins.hparams.api", lambda api: patch.observe(api, "hparams", self.on_hparams)
        )

    def _watch(self, module: ModuleType) -> None:
        self._patch.observe(module, "scalar", self.on_scalar)
        self._patch.observe(module, "histogram", self.on_histogram)
        self._patch.observe(module, "write", self.on_write)

    def on_scalar(self, call: Call) -> Observation:
        self._here.written = None
        with self._record.tee() as is_ours:
            yield
        written, self._here.written = self._here.written, None
        if not is_ours or call.error is not None or written is None:
            return
        tag, step = written
        value = call.args[1] if len(call.args) > 1 else call.kwargs["data"]
        is_written = tf.get_static_value(call.result) if isinstance(call.result, tf.Tensor) else call.result
        if is_written is None:
            # In a graph whose run decides (tf.summary.record_if).
            tf.cond(call.result, lambda: self._tell(tag, step, value), lambda: None)
        elif is_written:
            self._tell(tag, step, value)

    def on_histogram(self, call: Call) -> Observation:
        self._here.written = None
        with self._record.tee() as is_ours:
            yield
        written, self._here.written = self._here.written, None
        if not is_ours or call.error is not None or written is None or not tf.executing_eagerly() or not call.result:
            return
        tag, step = written
        data = call.args[1] if len(call.args) > 1 else call.kwargs["data"]
        if "CPU" not in getattr(data, "device", "CPU"):
            return  # reading it would wait
        numpy = sys.modules["numpy"]  # TensorFlow has imported it
        values = numpy.asarray(data, numpy.float64)
        if values.size:
            found = {"min": values.min(), "max": values.max(), "mean": values.mean(), "std": values.std()}
            found = {**found, "count": values.size}
            self._record.log_metrics(
                {f"{tag}/{name}": value for name, value in found.items()}, step=int(step), source=SUMMARIES
            )

    def on_write(self, call: Call) -> Observation:
        """What scalar() and histogram() call inside, with the scopes of names added to theirs."""
        tag = call.args[0] if call.args else call.kwargs.get("tag")
        step = call.args[2] if len(call.args) > 2 else call.kwargs.get("step")
        self._here.written = tag, tf.summary.experimental.get_step() if step is None else step
        yield

    def on_hparams(self, call: Call) -> Observation:
        with self._record.tee() as is_ours:
            yield
        given = call.args[0] if call.args else call.kwargs.get("hparams")
        if is_ours and call.error is None and isinstance(given, dict):
            self._record.params({str(getattr(key, "name", key)): value for key, value in given.items()}, SUMMARIES)

    def _tell(self, tag: Any, step: Any, value: Any) -> None:
        self._loop.scalar(str(tag), step, value)
