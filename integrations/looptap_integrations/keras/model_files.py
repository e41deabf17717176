"""Models and weights that the program writes and reads with Keras 3 or tf-keras: the files, and what a model takes and gives."""

from __future__ import annotations

import os
import re
from typing import Any

from looptap.folders import Place, checkpoint, path_of
from looptap.integration import Capture
from looptap.patching import Call, Observation, Patcher
from looptap.recorder import Recorder
from looptap.weights import of_saved_model
from looptap_integrations.keras.names import observe_functions
from looptap_integrations.keras.signatures import signature

CAPTURES = (
    Capture(
        "model files written: content, SHA-256, step, shapes and types of inputs and outputs (role output)",
        "Model.save, save_weights, export, keras.saving.save_model; so ModelCheckpoint and BackupAndRestore, too",
        "each call",
        "in the background",
    ),
    Capture(
        "model files read: SHA-256 (role input), which leads back to the run that wrote them",
        "load_model, Model.load_weights",
        "each file once a run",
        "in the background",
    ),
)
NOT_CAPTURED = (
    "model files at an address (hf://, gs://), and those of OrbaxCheckpoint",
    "outputs of a model of a class of its own: Keras knows its inputs only",
)

_WEIGHTS = (".weights.json", ".weights.h5")
_ONE_FILE = (".keras", ".h5", ".hdf5")


class ModelFiles:
    def __init__(self, record: Recorder) -> None:
        self._record = record
        #: Whether a checkpoint under way is the best one, and by which metric.
        self._standing: str | None = None

    def install(self, patch: Patcher, package: Any) -> None:
        """``package``: ``keras`` or ``tf_keras``."""
        for name in ("save", "save_weights", "export"):
            patch.observe(package.Model, name, self.on_save)
        patch.observe(package.Model, "load_weights", self.on_load_weights)
        patch.observe(package.callbacks.ModelCheckpoint, "on_epoch_end", self.on_checkpoint)
        functions = {
            "save_model": self.on_save,
            "save_weights": self.on_save,
            "load_model": self.on_load_model,
            "load_weights": self.on_load_weights,
        }
        observe_functions(patch, package.__name__, "saving", functions)
        observe_functions(patch, package.__name__, "models", functions)

    def on_save(self, call: Call) -> Observation:
        """All of them are called with the model first and the path second."""
        place = _place(call, 1, is_written=True)
        if place is None or self._record.is_suppressed():
            return
        before = place.files()
        # A model is exported by the functions of a framework below, which are observed, too.
        with self._record.suppress():
            yield
        if call.error is None:
            model = call.args[0] if call.args else call.kwargs.get("model")
            told = [part for part in (self._standing, signature(model)) if part]
            place.keep(self._record, before, step=self._step(), description="; ".join(told) or None)

    def on_load_weights(self, call: Call) -> Observation:
        yield
        if call.error is None:
            self._read(_place(call, 1), call.args[0] if call.args else call.kwargs.get("model"))

    def on_load_model(self, call: Call) -> Observation:
        yield
        if call.error is None:
            self._read(_place(call, 0), call.result)

    def on_checkpoint(self, call: Call) -> Observation:
        callback = call.instance
        if getattr(callback, "save_best_only", False):
            self._standing = f"best {callback.monitor}"
        yield
        self._standing = None

    # --- private ------------------------------------------------------------------------------------------------------

    def _read(self, place: Place | None, model: Any) -> None:
        if place is not None and not self._record.is_suppressed():
            place.keep(self._record, role="input", step=self._step())
            weights = place.path if os.path.isfile(place.path) else of_saved_model(place.path)
            if weights is not None:
                self._record.loaded(model, weights)

    def _step(self) -> int | None:
        return self._record.step if self._record.step >= 0 else None


def _place(call: Call, position: int, *, is_written: bool = False) -> Place | None:
    given = call.args[position] if len(call.args) > position else call.kwargs.get("filepath")
    path = path_of(given)
    if path is None:
        return None
    name = os.path.basename(path)
    for ending in _WEIGHTS:
        if name.endswith(ending):
            stem = re.escape(name.removesuffix(ending))
            # Asked for several files, Keras takes `.weights.json` for the name that it was given.
            is_sharded = ending == ".weights.json" or (
                is_written and (len(call.args) > 3 or "max_shard_size" in call.kwargs)
            )
            return Place(path, rf"{stem}_\d{{5}}\.weights\.h5|{stem}\.weights\.json" if is_sharded else "")
    if name.endswith(_ONE_FILE):
        return Place(path)
    # Of tf-keras, which may write a checkpoint of TensorFlow.
    return Place(path, checkpoint(path) + ("|checkpoint" if is_written else ""))
