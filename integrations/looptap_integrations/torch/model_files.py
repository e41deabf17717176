"""Files that the program writes with ``torch.save``, ``torch.jit.save`` and ``torch.export.save``, and those that it reads with the
functions of the other direction.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch

from looptap.integration import Capture
from looptap.patching import Call, Observation, Patcher
from looptap.recorder import Recorder

CAPTURES = (
    Capture(
        "model files written: content, SHA-256 and step (role output)",
        "torch.save, torch.jit.save, ScriptModule.save, torch.export.save",
        "each call",
        "in the background",
    ),
    Capture(
        "files read: SHA-256 (role input), which leads back to the run that wrote them",
        "torch.load, torch.jit.load, torch.export.load",
        "each file once a run",
        "in the background",
    ),
)
NOT_CAPTURED = (
    "model files that are written to or read from memory (BytesIO), or by a worker process of a DataLoader",
    "more than 100 small files (16 MiB) or 1,000 files read in one run: these are data, not models",
)


class ModelFiles:
    def __init__(self, record: Recorder, settle: Callable[[], None] = lambda: None) -> None:
        """``settle`` sees to it that the last step is counted."""
        self._record = record
        self._settle = settle
        #: Files that the program still has open, with path and step: their content is on disk once they are closed.
        self.open: list[tuple[weakref.ref[Any], str, int | None]] = []

    def install(self, patch: Patcher) -> None:
        for module in ("torch", "torch.serialization"):
            patch.observe(module, "save", self.on_save)
            patch.observe(module, "load", self.on_load)
        for module in ("torch.jit", "torch.jit._serialization"):
            patch.observe(module, "save", self.on_save)
            patch.observe(module, "load", self.on_load)
        # Scripted modules are of the one, traced modules of the other: it has a copy of the method.
        patch.observe(torch.jit._script.RecursiveScriptModule, "save", self.on_save)
        patch.observe(torch.jit._script.ScriptModule, "save", self.on_save)
        patch.observe(torch.nn.Module, "load_state_dict", self.on_state)
        patch.observe("torch.export", "save", self.on_save)
        patch.observe("torch.export", "load", self.on_load)

    def on_save(self, call: Call) -> Observation:
        """All of them are called with the object first and the file second."""
        self._settle()
        yield
        if call.error is None and not self._record.is_suppressed():
            target = call.args[1] if len(call.args) > 1 else call.kwargs.get("f")
            self.saved(target, self._record.step)

    def on_load(self, call: Call) -> Observation:
        yield
        if call.error is None and not self._record.is_suppressed():
            source = call.args[0] if call.args else call.kwargs.get("f")
            path = _path(source)
            if path is not None and os.path.isfile(path):
                self._record.file(path, role="input", kind="model", step=self._step())
                self._record.loaded(call.result, path)

    def on_state(self, call: Call) -> Observation:
        """``model.load_state_dict(state)``"""
        yield
        if call.error is None:
            state = call.args[1] if len(call.args) > 1 else call.kwargs.get("state_dict")
            # With ``strict=False``, part of a model may be what it was.
            is_whole = not getattr(call.result, "missing_keys", None)
            self._record.copied(state.values() if isinstance(state, Mapping) and is_whole else (), call.instance)

    def saved(self, target: Any, step: int) -> None:
        """``torch.save`` has written to ``target`` after this step (-1: before the first)."""
        at = step if step >= 0 else None
        path = _path(target)
        if path is None or path.endswith(".distcp"):  # whole, and complete, these are a checkpoint: sharded_files
            return
        if isinstance(target, (str, os.PathLike)):
            self._keep(path, at)
        elif os.path.isfile(path):
            self.open.append((weakref.ref(target), os.path.abspath(path), at))

    def look_again(self, at_end: bool = False) -> None:
        """Record those files that were closed in the meantime; at the end of the run, all."""
        still: list[tuple[weakref.ref[Any], str, int | None]] = []
        for reference, path, step in self.open:
            file = reference()
            if file is not None and not file.closed and not at_end:
                still.append((reference, path, step))
            else:
                self._keep(path, step)
        self.open = still

    def _step(self) -> int | None:
        return self._record.step if self._record.step >= 0 else None

    def _keep(self, path: Any, step: int | None) -> None:
        if os.path.isfile(path):  # it may be gone already: a file that is written, moved and deleted
            self._record.file(path, kind="model", step=step)


def _path(file: Any) -> str | None:
    """Of what the program gave as a file: a path, or an open file that has one."""
    path = os.fspath(file) if isinstance(file, (str, os.PathLike)) else getattr(file, "name", None)
    return path if isinstance(path, str) else None
