"""Files that ``onnx`` writes and reads: models that were converted (``skl2onnx``, ``tf2onnx``, …), quantized or changed by hand,
and the weights beside them."""

from __future__ import annotations

import os
from typing import Any

from looptap.integration import Capture, Integration
from looptap.patching import Call, Observation, Patcher
from looptap.recorder import Recorder
from looptap.weights import onnx_files


class OnnxIntegration(Integration):
    requires = "onnx>=1.15"
    captures = (
        Capture(
            "ONNX files written: content, SHA-256 and step (role output)",
            "onnx.save, onnx.save_model",
            "each call",
            "in the background",
        ),
        Capture(
            "ONNX files read: SHA-256 (role input), which leads back to the run that wrote them",
            "onnx.load, onnx.load_model",
            "each file once a run",
            "in the background",
        ),
    )

    def install(self, patch: Patcher, record: Recorder) -> None:
        self.record = record
        for name in ("save", "save_model"):
            patch.observe("onnx", name, self.on_save)
        for name in ("load", "load_model"):
            patch.observe("onnx", name, self.on_load)

    def on_save(self, call: Call) -> Observation:
        yield
        self._keep(call, call.args[1] if len(call.args) > 1 else call.kwargs.get("f"), "output")

    def on_load(self, call: Call) -> Observation:
        yield
        self._keep(call, call.args[0] if call.args else call.kwargs.get("f"), "input")

    def _keep(self, call: Call, file: Any, role: str) -> None:
        if call.error is None and isinstance(file, (str, os.PathLike)) and not self.record.is_suppressed():
            step = self.record.step if self.record.step >= 0 else None
            for path in onnx_files(os.fspath(file)):
                self.record.file(path, role=role, kind="model", step=step)
