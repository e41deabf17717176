"""Models and checkpoints that the program writes and reads with TensorFlow: a SavedModel is a folder, a checkpoint several files.

What is converted (``tf.lite``) or exported by another library goes through functions of TensorFlow's own below these, and a folder
of its own: that is none of the run's models.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tensorflow

from looptap.folders import CHECKPOINT, Place, checkpoint, path_of
from looptap.integration import Capture
from looptap.patching import Call, Observation, Patcher
from looptap.recorder import Recorder
from looptap.weights import of_saved_model
from looptap_integrations.tensorflow.signatures import signature

CAPTURES = (
    Capture(
        "SavedModels and checkpoints written: each file with content, SHA-256, step, and the signature (role output)",
        "tf.saved_model.save, tf.train.Checkpoint.save and write, CheckpointManager.save",
        "each call",
        "in the background",
    ),
    Capture(
        "SavedModels and checkpoints read: SHA-256 of each file (role input); the version of a watched SavedModel or signature",
        "tf.saved_model.load, tf.train.Checkpoint.restore and read",
        "each file once a run",
        "in the background",
    ),
)
NOT_CAPTURED = ("checkpoints that TensorFlow writes in the background, and those of tf.compat.v1",)

#: The latest one, in words.
_STATE = "checkpoint"


class ModelFiles:
    def __init__(self, record: Recorder, settle: Callable[[], None] = lambda: None) -> None:
        """``settle`` sees to it that the last step is counted."""
        self._record = record
        self._settle = settle

    def install(self, patch: Patcher) -> None:
        patch.observe(tensorflow.saved_model, "save", self.on_save_model)
        patch.observe(tensorflow.saved_model, "load", self.on_load_model)
        # The same under the name that `from tensorflow.saved_model import load` gives it.
        patch.when_imported("tensorflow.saved_model", lambda module: self._install(patch, module))
        patch.observe(tensorflow.train.Checkpoint, "write", self.on_write)
        patch.observe(tensorflow.train.Checkpoint, "save", self.on_save)
        patch.observe(tensorflow.train.CheckpointManager, "save", self.on_managed)
        patch.observe(tensorflow.train.Checkpoint, "read", self.on_read)
        patch.observe(tensorflow.train.Checkpoint, "restore", self.on_read)

    def _install(self, patch: Patcher, module: Any) -> None:
        patch.observe(module, "save", self.on_save_model)
        patch.observe(module, "load", self.on_load_model)

    def on_save_model(self, call: Call) -> Observation:
        path = _path(call, 1, "export_dir")
        place = None if path is None else Place(path)
        before = self._before(place)
        yield
        given = call.args[2] if len(call.args) > 2 else call.kwargs.get("signatures")
        self._written(call, place, before, lambda: signature(given))

    def on_write(self, call: Call) -> Observation:
        """The files are named as the program says."""
        path = _path(call, 1, "file_prefix")
        place = None if path is None else Place(path, checkpoint(path))
        before = self._before(place)
        yield
        self._written(call, place, before)

    def on_save(self, call: Call) -> Observation:
        """They get a number behind the name."""
        path = _path(call, 1, "file_prefix")
        name = re.escape(os.path.basename(path or ""))
        place = None if path is None else Place(path, rf"{name}-\d+{CHECKPOINT}|{_STATE}")
        before = self._before(place)
        yield
        self._written(call, place, before)

    def on_managed(self, call: Call) -> Observation:
        """They get a name and a number, and others may be deleted for them."""
        path = path_of(call.instance.directory)
        place = None if path is None else Place(os.path.join(path, "ckpt"), f".+{CHECKPOINT}|{_STATE}")
        before = self._before(place)
        yield
        self._written(call, place, before)

    def on_load_model(self, call: Call) -> Observation:
        yield
        path = _path(call, 0, "export_dir")
        if path is None or call.error is not None or self._record.is_suppressed():
            return
        self._read(call, Place(path))
        weights = of_saved_model(path)
        if weights is not None:
            for function in (call.result, *_functions(call.result)):
                self._record.loaded(function, weights)

    def on_read(self, call: Call) -> Observation:
        yield
        path = _path(call, 1, "save_path")
        if path is not None and os.path.isdir(path):  # of a SavedModel, or of the latest one in it
            inside = os.path.join(path, "variables", "variables")
            path = inside if os.path.isfile(f"{inside}.index") else tensorflow.train.latest_checkpoint(path)
        if path is not None:
            self._read(call, Place(path, checkpoint(path)))

    # --- private ------------------------------------------------------------------------------------------------------

    def _before(self, place: Place | None) -> Any:
        self._settle()
        return None if place is None or self._record.is_suppressed() else place.files()

    def _written(
        self, call: Call, place: Place | None, before: Any, describe: Callable[[], str | None] = lambda: None
    ) -> None:
        if call.error is None and place is not None and before is not None:
            place.keep(self._record, before, step=self._step(), description=describe())

    def _read(self, call: Call, place: Place) -> None:
        if call.error is None and not self._record.is_suppressed():
            place.keep(self._record, role="input", step=self._step())

    def _step(self) -> int | None:
        return self._record.step if self._record.step >= 0 else None


def _functions(loaded: Any) -> Iterator[Any]:
    """By which a SavedModel is asked, beside being called: its signatures, and the methods that were saved with it."""
    signatures = getattr(loaded, "signatures", None)
    yield from signatures.values() if isinstance(signatures, Mapping) else ()
    yield from (one for one in getattr(loaded, "__dict__", {}).values() if callable(one))


def _path(call: Call, position: int, name: str) -> str | None:
    return path_of(call.args[position] if len(call.args) > position else call.kwargs.get(name))
