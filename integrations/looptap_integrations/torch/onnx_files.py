"""Files that ``torch.onnx`` writes: the model, and beside it the weights of a large one."""

from __future__ import annotations

import os
from typing import Any

from looptap.integration import Capture, Integration
from looptap.patching import Call, Observation, Patcher
from looptap.recorder import Recorder
from looptap.weights import onnx_files


class OnnxFilesIntegration(Integration):
    requires = "torch>=2.2"
    captures = (
        Capture(
            "ONNX files: content, SHA-256 and step (role output)",
            "torch.onnx.export, ONNXProgram.save",
            "each call",
            "in the background",
        ),
    )

    def install(self, patch: Patcher, record: Recorder) -> None:
        self.record = record
        self._patch = patch
        self._programs: set[type] = set()
        patch.observe("torch.onnx", "export", self.on_export)

    def on_export(self, call: Call) -> Observation:
        yield
        if call.error is not None:
            return
        self._written(call.args[2] if len(call.args) > 2 else call.kwargs.get("f"))
        # Its class is imported by the first export only, and takes its time.
        kind = type(call.result)
        if kind.__name__ == "ONNXProgram" and kind not in self._programs:
            self._programs.add(kind)
            self._patch.observe(kind, "save", self.on_save)

    def on_save(self, call: Call) -> Observation:
        yield
        if call.error is None:
            self._written(call.args[1] if len(call.args) > 1 else call.kwargs.get("destination"))

    def _written(self, target: Any) -> None:
        if not isinstance(target, (str, os.PathLike)):
            return
        step = self.record.step if self.record.step >= 0 else None
        for written in onnx_files(os.fspath(target)):
            self.record.file(written, kind="model", step=step)
