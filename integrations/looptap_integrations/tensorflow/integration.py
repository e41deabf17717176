"""What looptap watches in TensorFlow."""

from __future__ import annotations

from threading import Event

import tensorflow as tf

from looptap.guard import Guard
from looptap.integration import Integration
from looptap.patching import Patcher
from looptap.recorder import Recorder
from looptap_integrations.tensorflow import datasets, loop, model_files, summaries
from looptap_integrations.tensorflow.feeding import Feeding
from looptap_integrations.tensorflow.graphs import GRAPHS
from looptap_integrations.tensorflow.sites import Sites
from looptap_integrations.tensorflow.steps import Steps
from looptap_integrations.tensorflow.tapes import Tapes
from looptap_integrations.tensorflow.traced_before import note_functions


class TensorFlowIntegration(Integration):
    requires = "tensorflow>=2.16"
    captures = (*loop.CAPTURES, *summaries.CAPTURES, *datasets.CAPTURES, *model_files.CAPTURES)
    not_captured = (*loop.NOT_CAPTURED, *summaries.NOT_CAPTURED, *datasets.NOT_CAPTURED, *model_files.NOT_CAPTURED)

    def install(self, patch: Patcher, record: Recorder) -> None:
        self.loop = loop.Loop(record, GRAPHS)
        with Guard("tensorflow.traced_before"):
            note_functions(record)
        sites = Sites()
        tapes = Tapes(self.loop, sites)
        tapes.install(patch)
        Steps(self.loop, sites, tapes).install(patch)
        patch.when_undone(self.loop.leave)
        patch.hook(record.every, self.loop.look, loop.SECONDS_BETWEEN_LOOKS)
        summaries.Summaries(record, self.loop).install(patch)
        datasets.Datasets(record).install(patch)
        self.feeding = Feeding(record, self.loop.settle)
        self.feeding.install(patch)
        model_files.ModelFiles(record, self.loop.look).install(patch)

    def trace(self, folder: str, seconds: float, over: Event) -> str | None:
        """TensorFlow's profiler sees all threads, and may be started by any. Its file is for TensorBoard."""
        # Two profilers at a time are an error, and it would be the program's if it came second: that is told by Keras' TensorBoard
        # callback in one line, and it goes on.
        tf.profiler.experimental.start(folder)
        try:
            over.wait(seconds)
        finally:
            tf.profiler.experimental.stop()
        return None

    def finish(self) -> None:
        self.loop.finish()
        self.feeding.finish()
