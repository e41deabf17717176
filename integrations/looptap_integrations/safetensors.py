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


class SafetensorsReadIntegration(Integration):
    """Of the package itself: ``safe_open``, which ``load_file`` and ``load_model`` use, and ``from_pretrained`` of transformers."""

    requires = "safetensors>=0.4"
    captures = (
        Capture(
            "safetensors files read: SHA-256 (role input), which leads back to the run that wrote them",
            "safe_open, load_file, load_model",
            "each file once a run",
            "in the background",
        ),
    )
    not_captured = ("safetensors.torch.load and save: their content is in memory, and has no name",)

    def install(self, patch: Patcher, record: Recorder) -> None:
        import safetensors

        self.record = record
        # Of the class, not the class itself: programs ask whether something is one.
        patch.observe(safetensors.safe_open, "__new__", self.on_open)

    def on_open(self, call: Call) -> Observation:
        yield
        if call.error is None:
            path = _path(call, 1)
            if path is not None:
                step = self.record.step if self.record.step >= 0 else None
                self.record.file(path, role="input", kind="model", step=step)


class SafetensorsIntegration(Integration):
    requires = "safetensors>=0.4"
    captures = (
        Capture(
            "safetensors files written: content, SHA-256 and step (role output)",
            "save_file, save_model",
            "each call",
            "in the background",
        ),
    )
    where: ClassVar[str] = "safetensors.torch"

    def install(self, patch: Patcher, record: Recorder) -> None:
        self.record = record
        patch.observe(self.where, "serialize_file", self.on_write)

    def on_write(self, call: Call) -> Observation:
        yield
        if call.error is None:
            path = _path(call, 1)
            if path is not None:
                step = self.record.step if self.record.step >= 0 else None
                self.record.file(path, kind="model", step=step)


class SafetensorsNumpyIntegration(SafetensorsIntegration):
    """``safetensors.flax`` and ``safetensors.mlx`` write through it."""

    where = "safetensors.numpy"


def _path(call: Call, position: int) -> str | None:
    given: Any = call.args[position] if len(call.args) > position else call.kwargs.get("filename")
    path = os.fspath(given) if isinstance(given, (str, os.PathLike)) else None
    return path if isinstance(path, str) and os.path.isfile(path) else None
