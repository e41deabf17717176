"""What was set how, written once per run and model when it is trained first, and again with another optimizer: backend, model,
optimizers, loss, metrics, flags."""

from __future__ import annotations

import importlib
import math
import os
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any

from looptap.config_objects import settings_in
from looptap.frames import outward, package_of
from looptap.guard import Guard
from looptap.integration import Capture
from looptap.recorder import Recorder
from looptap.script import script_constants
from looptap_integrations.keras.evaluations import BETWEEN
from looptap_integrations.keras.optimizers import optimizers_of

CAPTURES = (
    Capture(
        "optimizer.class, optimizer.… (its config, also of a schedule), loss, metrics, model.jit_compile, …",
        "what Model.compile was given, Optimizer.get_config",
        "once a run, model and optimizer",
    ),
    Capture(
        "model.class, model.parameters, model.parameters_trainable, model.dtype_policy, model.device, model.layers: a line for each"
        " layer",
        "the model",
        "once a run, model and optimizer",
    ),
    Capture(
        "keras.version, keras.backend and its version, keras.float, keras.strategy, seed.keras, deterministic.tensorflow, xla.auto",
        "keras.config, tf.distribute, keras.distribution",
        "once a run",
    ),
)
#: Of so many layers there is a line.
_LAYERS_LIMIT = 100
#: Of an optimizer's config; its name is made by Keras where the program gives none.
_LEFT_OUT = ("name",)


class Facts:
    """``keras``: the package, which may be tf-keras. ``backend``: the name of what computes."""

    def __init__(self, record: Recorder, keras: Any, backend: str) -> None:
        self._record = record
        self._keras = keras
        self._backend = backend
        self._source = keras.__name__
        self._generation = -1
        #: What the names of its params begin with, and the optimizer that it was told with.
        self._models: weakref.WeakKeyDictionary[Any, tuple[str, weakref.ref[Any] | None]] = weakref.WeakKeyDictionary()
        #: Models that had no weights yet when they were told.
        self._unbuilt: weakref.WeakSet[Any] = weakref.WeakSet()

    def trained(self, model: Any) -> None:
        """The model is about to be trained. Call it as soon as a run is under way."""
        if self._generation != self._record.generation:
            self._generation = self._record.generation
            self._models.clear()
            self._apart("process", self._process)
            if self._record.keeps_constants:
                self._apart("constants", self._constants)
        optimizer = getattr(model, "optimizer", None)
        prefix, told = self._models.get(model, ("", None))
        # Compiled anew, say to train more of its layers or fewer: from here on that is what counts.
        if prefix and optimizer is (None if told is None else told()):
            return
        prefix = prefix or ("model" if not self._models else _name(model))
        self._models[model] = (prefix, None if optimizer is None else weakref.ref(optimizer))
        self._apart("optimizer", lambda: self._optimizers(prefix, model))
        self._apart("compile", lambda: self._compiled(prefix, model))
        if getattr(model, "built", False):
            self._apart("model", lambda: self._model(prefix, model))
        else:
            self._unbuilt.add(model)

    def has_trained(self, model: Any) -> None:
        """It has weights by now."""
        if model in self._unbuilt:
            self._unbuilt.discard(model)
            self._apart("model", lambda: self._model(self._models[model][0], model))

    # --- private ----------------------------------------------------------------------------------------------------

    def _params(self, values: Mapping[str, Any]) -> None:
        self._record.params({key: value for key, value in values.items() if value is not None}, self._source)

    def _apart(self, what: str, write: Callable[[], None]) -> None:
        """One group of facts that cannot be had does not cost the others."""
        guard = Guard(f"keras.facts.{what}")
        with guard:
            write()
        if guard.last_error:
            self._record.note("keras", f"facts of the {what} are incomplete: {guard.last_error}")

    def _constants(self) -> None:
        record, frames = self._record, list(_program_frames(sys._getframe(1)))
        if frames:
            constants = script_constants(frames)
            record.params(constants, "constant")
            for source, values in settings_in(frames[0], record.given, record.redactor.is_secret, set(constants)):
                record.params(values, source)

    def _process(self) -> None:
        keras = self._keras
        computing = sys.modules.get(self._backend)
        self._params(
            {
                "keras.version": keras.__version__,
                "keras.backend": self._backend,
                f"{self._backend}.version": getattr(computing, "__version__", None),
                "keras.float": keras.backend.floatx(),
                "seed.keras": _seed(self._source),
                "deterministic.python_hash_seed": os.environ.get("PYTHONHASHSEED"),
            }
        )
        if self._backend == "tensorflow":
            self._params(_of_tensorflow())
        elif hasattr(keras, "distribution") and (chosen := keras.distribution.distribution()) is not None:
            mesh = dict(zip(chosen.device_mesh.axis_names, chosen.device_mesh.shape, strict=False))
            self._params({"keras.strategy": type(chosen).__name__, "keras.devices": mesh})

    def _optimizers(self, prefix: str, model: Any) -> None:
        for label, optimizer in optimizers_of(model):
            name = label if prefix == "model" else f"{prefix}.{label}"
            inner = getattr(optimizer, "inner_optimizer", None)
            if inner is not None:  # of mixed precision
                self._params({f"{name}.loss_scaling": type(optimizer).__name__})
            self._params({name: self._config(inner or optimizer)})

    def _config(self, optimizer: Any) -> dict[str, Any]:
        """Its class and settings; a schedule is one of them, with settings of its own."""
        found: dict[str, Any] = {"class": _class(optimizer)}
        try:
            config = optimizer.get_config()
        except NotImplementedError as error:
            # Of a schedule of the program's own, mostly.
            self._record.note("keras", f"settings of {type(optimizer).__name__} are left out: {error}")
            rate = getattr(optimizer, "_learning_rate", None)
            return {**found, "learning_rate": {"class": type(rate).__name__}} if callable(rate) else found
        for key, value in config.items():
            if isinstance(value, Mapping) and "class_name" in value:
                inner = value.get("config") or {}
                found[key] = {"class": value["class_name"], **{k: v for k, v in inner.items() if v is not None}}
                found[key].pop("name", None)
            elif key not in _LEFT_OUT and value is not None:
                found[key] = value
        return found

    def _compiled(self, prefix: str, model: Any) -> None:
        # Not get_compile_config(), which fails as a whole where a part of the program's own cannot be serialized.
        compiled = getattr(getattr(model, "_compile_config", None), "config", {})
        serialize = self._keras.saving.serialize_keras_object
        wanted = ("loss", "metrics", "weighted_metrics", "loss_weights")
        given = {key: serialize(compiled[key]) for key in wanted if compiled.get(key) is not None}
        own = "" if prefix == "model" else f"{prefix}."
        self._params({f"{own}{key}": _short(given.get(key)) for key in ("loss", "metrics", "weighted_metrics")})
        self._params({f"{own}loss_weights": given.get("loss_weights")})
        flags = ("jit_compile", "run_eagerly", "steps_per_execution", "auto_scale_loss")
        self._params({f"{prefix}.{flag}": getattr(model, flag, None) for flag in flags})

    def _model(self, prefix: str, model: Any) -> None:
        layers = _layers(model)
        policies = list(dict.fromkeys(_policy(layer) for layer in layers or [model]))
        lines = [_line(layer) for layer in layers[:_LAYERS_LIMIT]]
        if len(layers) > _LAYERS_LIMIT:
            lines[-1] = f"and {len(layers) - _LAYERS_LIMIT + 1} more"
        self._params(
            {
                f"{prefix}.class": _class(model),
                f"{prefix}.name": _name(model),
                f"{prefix}.parameters": _count(model.weights),
                f"{prefix}.parameters_trainable": _count(model.trainable_weights),
                f"{prefix}.dtype_policy": policies[0] if len(policies) == 1 else policies,
                f"{prefix}.device": _device(model.weights),
                f"{prefix}.layers": lines,
            }
        )


def _short(value: Any) -> Any:
    """What Keras has serialized, as one would write it: the name of a loss or a metric, with what was given to it."""
    if isinstance(value, Mapping):
        if "class_name" not in value:
            return {key: _short(inner) for key, inner in value.items()}
        config = value.get("config")
        if not isinstance(config, Mapping):  # a function of the program
            return config
        given = (f"{key}={inner!r}" for key, inner in config.items() if key not in ("name", "dtype", "fn"))
        return f"{value['class_name']}({', '.join(text for text in given if not text.endswith('=None'))})"
    if isinstance(value, (list, tuple)):
        return [_short(inner) for inner in value]
    return value


def _layers(model: Any) -> list[Any]:
    """The layers that compute something and are no models themselves, in order."""
    layers = model._flatten_layers(include_self=False)
    return [layer for layer in layers if not hasattr(layer, "train_step") and type(layer).__name__ != "InputLayer"]


def _line(layer: Any) -> str:
    try:
        shape = f", {tuple(layer.output.shape)}"
    except Exception:  # noqa: BLE001 - of a model that is a class of the program, layers have no such thing
        shape = ""
    frozen = "" if layer.trainable else ", frozen"
    return f"{layer.name}: {type(layer).__name__}, {_count(layer.weights):,} parameters{shape}{frozen}"


def _policy(layer: Any) -> str:
    policy = getattr(layer, "dtype_policy", None)
    return str(getattr(policy, "name", getattr(layer, "dtype", policy)))


def _count(weights: list[Any]) -> int:
    return sum(math.prod(weight.shape) for weight in weights)


def _device(weights: list[Any]) -> str | None:
    """Where the first weight lies: ``cpu``, ``gpu:0``, ``cuda:0``, …"""
    if not weights:
        return None
    value = weights[0] if hasattr(weights[0], "device") else weights[0].value
    if hasattr(value, "devices"):  # JAX
        first = min(value.devices(), key=lambda device: device.id)
        found = f"{first.platform}:{first.id}"
    else:
        found = str(value.device).rpartition("device:")[2].lower()
    return "cpu" if found.startswith("cpu") else found


def _seed(package: str) -> Any:
    """What ``keras.utils.set_random_seed`` was given; None before Keras 3.6, which does not keep it."""
    known = sys.modules.get(f"{package}.src.utils.rng_utils")
    read = getattr(known, "get_random_seed", None)
    return read() if read is not None else None


def _of_tensorflow() -> dict[str, Any]:
    tensorflow = importlib.import_module("tensorflow")
    config = importlib.import_module("tensorflow.python.framework.config")
    found = {
        "seed.tensorflow": importlib.import_module("tensorflow.python.eager.context").global_seed(),
        "deterministic.tensorflow": config.is_op_determinism_enabled(),
        "xla.auto": tensorflow.config.optimizer.get_jit() or None,
    }
    strategy = tensorflow.distribute.get_strategy()
    if tensorflow.distribute.has_strategy():
        found["keras.strategy"] = type(strategy).__name__
        found["keras.replicas"] = strategy.num_replicas_in_sync
    return found


def _program_frames(frame: FrameType | None) -> Iterator[FrameType]:
    """The program's own, nearest first."""
    return (outer for outer in outward(frame) if package_of(outer) not in BETWEEN)


def _class(thing: Any) -> str:
    kind = type(thing)
    return f"{kind.__module__}.{kind.__qualname__}"


def _name(model: Any) -> str:
    return str(getattr(model, "name", type(model).__name__))
