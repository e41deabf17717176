"""ONNX Runtime: the file that a session is made from. What a session is asked and answers is seen where it is watched
(:mod:`looptap.serving.sessions`)."""

from __future__ import annotations

import os
from typing import ClassVar

from onnxruntime import InferenceSession

from looptap.integration import Capture, Integration
from looptap.patching import Call, Observation, Patcher
from looptap.recorder import Recorder
from looptap.weights import onnx_files


class OnnxRuntimeIntegration(Integration):
    requires = "onnxruntime>=1.17"
    captures = (
        Capture(
            "ONNX files read: SHA-256 (role input), which leads back to the run that wrote them; the version of a watched session",
            "InferenceSession(path)",
            "each session",
            "in the background",
        ),
    )
    not_captured: ClassVar[tuple[str, ...]] = (
        "models that are given to a session as bytes: they have no name",
        "calls of run_async",
    )

    def install(self, patch: Patcher, record: Recorder) -> None:
        self.record = record
        patch.observe(InferenceSession, "__init__", self.on_made)

    def on_made(self, call: Call) -> Observation:
        yield
        given = call.args[1] if len(call.args) > 1 else call.kwargs.get("path_or_bytes")
        if call.error is not None or not isinstance(given, (str, os.PathLike)) or self.record.is_suppressed():
            return
        files, step = onnx_files(os.fspath(given)), self.record.step if self.record.step >= 0 else None
        for file in files:
            self.record.file(file, role="input", kind="model", step=step)
        if 1 <= len(files) <= 2:
            self.record.loaded(call.instance, files[-1])
