"""Files of ``safetensors``, written and read through any of its front ends.

All functions that write end in ``serialize_file``, all that read make a ``safe_open``; both are seen also where the program had
imported the function above them by name before ``autolog()``.
"""

from __future__ import annotations

import os
from typing import Any, ClassVar

from looptap.integration import Capture, Integration
from looptap.patching import Call, Observation, Patcher
from looptap.recorder import Recorder


class SafetensorsIntegration(Integration):
    """Of the package itself, of which programs call ``safe_open``."""

    requires = "safetensors>=0.4"
    captures = (
        Capture(
            "safetensors files read: SHA-256 (role input), which leads back to the run that wrote them",
            "safe_open, load_file, load_model",
            "each file once a run",
            "in the background",
        ),
    )
    not_captured: ClassVar[tuple[str, ...]] = (
        "safetensors.torch.load and save: their content is in memory, and has no name",
    )
    where: ClassVar[str] = "safetensors"

    def install(self, patch: Patcher, record: Recorder) -> None:
        self.record = record
        patch.observe(self.where, "safe_open", self.on_read)

    def on_read(self, call: Call) -> Observation:
        yield
        self._keep(call, call.args[0] if call.args else call.kwargs.get("filename"), "input")

    def on_load(self, call: Call) -> Observation:
        yield
        if call.error is None:
            self.record.loaded(call.result, call.args[0] if call.args else call.kwargs.get("filename"))

    def on_write(self, call: Call) -> Observation:
        yield
        self._keep(call, call.args[1] if len(call.args) > 1 else call.kwargs.get("filename"), "output")

    def _keep(self, call: Call, file: Any, role: str) -> None:
        if call.error is None and isinstance(file, (str, os.PathLike)) and os.path.isfile(file):
            step = self.record.step if self.record.step >= 0 else None
            self.record.file(file, role=role, kind="model", step=step)


class SafetensorsTorchIntegration(SafetensorsIntegration):
    """Of a module above it, with functions of its own that write and read."""

    captures = (
        Capture(
            "safetensors files written: content, SHA-256 and step (role output)",
            "save_file, save_model",
            "each call",
            "in the background",
        ),
    )
    not_captured: ClassVar[tuple[str, ...]] = ()
    where = "safetensors.torch"

    def install(self, patch: Patcher, record: Recorder) -> None:
        super().install(patch, record)
        patch.observe(self.where, "serialize_file", self.on_write)
        patch.observe(self.where, "load_file", self.on_load)


class SafetensorsNumpyIntegration(SafetensorsTorchIntegration):
    """``safetensors.flax`` and ``safetensors.mlx`` write through it."""

    where = "safetensors.numpy"
