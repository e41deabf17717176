"""What was set how, written once per run: what the program has written down, optimizers, seeds, flags."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import context
from tensorflow.python.framework import config

from looptap.config_objects import settings_in
from looptap.guard import Guard
from looptap.recorder import Recorder
from looptap.script import script_constants
from looptap_integrations.tensorflow.optimizers import Known

SOURCE = "tensorflow"
#: Of an optimizer's config: what says nothing, and what belongs to the model.
_LEFT_OUT = {"name", "is_legacy_optimizer", "jit_compile"}


class Facts:
    def __init__(self, record: Recorder) -> None:
        self._record = record
        #: Whether what is once per run was not written yet in this one.
        self.is_due = True
        #: What the program had written down when it was last looked at: a graph that runs has no frames to look at.
        self._constants: list[tuple[str, Mapping[str, Any]]] = []

    def restart(self) -> None:
        """A new run: everything is due again."""
        self.is_due = True

    def program(self, frames: Sequence[FrameType] = ()) -> None:
        """The program trains for the first time in this run, with these frames from the nearest outwards; without any, a graph of
        it does."""
        if not self.is_due:
            return
        self.is_due = False
        self._apart("process", self._process)
        if self._record.keeps_constants:
            self._apart("constants", lambda: self._of_program(frames))

    def optimizer(self, known: Known) -> None:
        """It steps for the first time in this run."""
        optimizer = known.reference()
        if optimizer is not None:
            self._apart("optimizer", lambda: self._optimizer(optimizer, known.label or "optimizer"))

    # --- private ------------------------------------------------------------------------------------------------------

    def _apart(self, what: str, write: Callable[[], None]) -> None:
        """One group of facts that cannot be had does not cost the others."""
        guard = Guard(f"tensorflow.facts.{what}")
        with guard:
            write()
        if guard.last_error:
            self._record.note("tensorflow", f"facts of the {what} are incomplete: {guard.last_error}")

    def _of_program(self, frames: Sequence[FrameType]) -> None:
        record = self._record
        if frames:
            constants = script_constants(frames)
            settings = settings_in(frames[0], record.given, record.redactor.is_secret, set(constants))
            self._constants = [("constant", constants), *settings]
        for source, values in self._constants:
            record.params(values, source)

    def _process(self) -> None:
        self._param("tensorflow.version", tf.__version__)
        seed = context.global_seed()
        if seed is not None:
            self._param("seed.tensorflow", seed)
        self._param("deterministic.ops", config.is_op_determinism_enabled())
        if jit := tf.config.optimizer.get_jit():
            self._param("tensorflow.jit", jit)
        if flags := os.environ.get("XLA_FLAGS"):
            self._param("tensorflow.xla_flags", flags)
        strategy = tf.distribute.get_strategy()
        if tf.distribute.has_strategy():
            self._param("strategy.class", type(strategy).__name__)
            self._param("strategy.replicas", strategy.num_replicas_in_sync)

    def _optimizer(self, optimizer: Any, prefix: str) -> None:
        self._param(f"{prefix}.class", f"{type(optimizer).__module__}.{type(optimizer).__qualname__}")
        get_config = getattr(optimizer, "get_config", None)
        if get_config is None:
            return
        with tf.init_scope():
            found = get_config()
        self._record.params({prefix: _settings(found)}, SOURCE)

    def _param(self, key: str, value: Any) -> None:
        self._record.param(key, value, SOURCE)


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """What an object of Keras was made with. An object inside, a schedule say, is written as its class and its own settings."""
    settings: dict[str, Any] = {}
    for key, value in config.items():
        if key in _LEFT_OUT or value is None:
            continue
        if isinstance(value, Mapping) and isinstance(value.get("config"), Mapping):
            value = {"class": value.get("class_name"), **_settings(value["config"])}
        settings[key] = value
    return settings
